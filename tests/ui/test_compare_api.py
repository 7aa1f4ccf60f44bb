"""The API endpoint /compare, called by gradio_client."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from rmbg.providers import PROVIDERS
from tests.benchmark.fakes import Fake
from tests.pictures import scene


@pytest.fixture(scope="module")
def client(app: str, tmp_path_factory: pytest.TempPathFactory) -> Client:
    return Client(app, verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "mug.png"
    Image.fromarray(scene(300, 400)[0]).save(path)
    return path


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    providers = [
        Fake("near"),
        Fake("far", "remote", "0.02"),
        Fake("down", "remote", "0.01", fail={"mug"}),
        Fake("murky", "remote"),
    ]
    for fake in providers:
        monkeypatch.setitem(PROVIDERS, fake.info.id, fake)
    return {fake.info.id: fake for fake in providers}


def test_table_has_a_row_for_each_provider_and_zip_has_the_cutouts(client, photo):
    table, file = client.predict(
        image=handle_file(str(photo)), providers="builtin, near, far, down", confirm_paid=True, api_name="/compare"
    )
    assert [line["provider"] for line in table] == ["builtin", "near", "far", "down"]
    assert table[0]["iou"] == 100 and table[3]["error"] == "The service is down."
    assert table[2]["cost"] == {"usd": 0.02, "basis": "charged"}
    assert Path(file).name == "mug-cutouts.zip"
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == ["mug-builtin.png", "mug-near.png", "mug-far.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"providers": "near,far"}, r"expected to cost about \$0\.02\. Set confirm_paid"),
        ({"providers": "far,murky"}, r"cost about \$0\.02 and an unknown price at Murky\. Set confirm_paid"),
        ({"providers": "missing"}, "no provider"),
        ({"providers": "near", "reference": "far"}, "must be one of near"),
        ({"providers": "near", "background": "/etc/hostname"}, "is not a background"),
    ],
)
def test_invalid_argument_is_reported_before_any_provider_runs(client, photo, fakes, arguments, message):
    with pytest.raises(AppError, match=message):
        client.predict(image=handle_file(str(photo)), **arguments, api_name="/compare")
    assert not any(fake.calls for fake in fakes.values())
