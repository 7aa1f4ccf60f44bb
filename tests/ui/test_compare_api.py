"""/compare, called by the official client."""

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
    made = [Fake("near"), Fake("far", "remote", "0.02"), Fake("down", "remote", "0.01", fail={"mug"}), Fake("murky", "remote")]
    for fake in made:
        monkeypatch.setitem(PROVIDERS, fake.info.id, fake)
    return {fake.info.id: fake for fake in made}


def test_a_line_for_each_and_a_zip(client, photo):
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
    ("arguments", "words"),
    [
        ({"providers": "near,far"}, r"expected to cost about \$0\.02; set confirm_paid"),
        ({"providers": "far,murky"}, r"cost about \$0\.02 and an unknown price at Murky; set confirm_paid"),
        ({"providers": "nobody"}, "no provider"),
        ({"providers": "near", "reference": "far"}, "must be one of near"),
        ({"providers": "near", "background": "/etc/hostname"}, "is no background"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(client, photo, fakes, arguments, words):
    with pytest.raises(AppError, match=words):
        client.predict(image=handle_file(str(photo)), **arguments, api_name="/compare")
    assert not any(fake.calls for fake in fakes.values())
