"""Paid results: saved after local failures. Size limits of services."""

from __future__ import annotations

import io
from decimal import Decimal

import numpy as np
import pytest
from PIL import Image

from rmbg.billing.cost import Cost
from rmbg.errors import OutputError, PhotoError
from rmbg.images.photo import Photo
from rmbg.providers import PROVIDERS
from rmbg.providers import remote as remote_module
from rmbg.providers.remote import EncodedPhoto
from rmbg.remove import keep_if_paid, total
from rmbg.settings import Settings
from tests.remote import PROTOCOLS, cut, picture, short_delays  # noqa: F401
from tests.servers.fal import Fal

pytestmark = pytest.mark.usefixtures("short_delays")


@pytest.mark.parametrize("protocol", ["fal queue", "Recraft"])
def test_result_is_saved_when_memory_is_exhausted(protocol, tmp_path, monkeypatch):
    def exhausted(*arguments, **more):
        raise MemoryError

    monkeypatch.setattr(remote_module, "finish", exhausted)
    with PROTOCOLS[protocol].server() as service, pytest.raises(OutputError) as caught:
        cut(service, tmp_path, protocol)
    (file,) = (tmp_path / "recovered").iterdir()
    assert str(file) in str(caught.value) and "was paid for (" in str(caught.value)
    assert Image.open(io.BytesIO(file.read_bytes())).size == (96, 64) and caught.value.cost


def test_failed_delivery_saves_paid_cutouts_only(tmp_path):
    with Fal() as service:
        paid = cut(service, tmp_path, "fal queue", data=picture())
    settings = Settings(data=tmp_path)
    with pytest.raises(OutputError, match=r"\$0\.018 charged"), keep_if_paid([paid], settings):
        raise OSError(28, "No space left on device")
    (file,) = (tmp_path / "recovered").iterdir()
    assert np.array_equal(np.asarray(Image.open(file))[..., 3] > 127, paid.matte > 0.5)
    with pytest.raises(ZeroDivisionError), keep_if_paid([], settings):
        raise ZeroDivisionError


def test_total_of_costs():
    charged, listed = Cost(Decimal("0.02"), "charged"), Cost(Decimal("0.05"), "listed")
    assert total([charged, charged]) == Cost(Decimal("0.04"), "charged")
    assert total([charged, listed]) == Cost(Decimal("0.07"), "listed")
    assert total([charged, Cost(None, "unknown")]) == Cost(None, "unknown")


@pytest.mark.parametrize(("side", "size"), [(7100, 1000), (1000, 23_000_000)])
def test_photo_above_the_limits_of_remove_bg_is_rejected(side, size):
    photo = Photo(np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (side, side, 3)))
    provider = PROVIDERS["removebg"]
    with pytest.raises(PhotoError, match=r"remove\.bg accepts (photos|files) of at most (50 megapixels|22 MB)\."):
        provider.check_size(photo, EncodedPhoto(bytes(size), "image/png"), Settings())
    other = Settings(environ={"RMBG_REMOVEBG_URL": "https://x.example"})
    provider.check_size(photo, EncodedPhoto(bytes(size), "image/png"), other)
