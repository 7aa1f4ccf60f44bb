"""Edge options of ``remove`` and ``batch``."""

from __future__ import annotations

import contextlib
import json
import sqlite3

import numpy as np
import pytest
from PIL import Image

from rmbg.__main__ import main
from rmbg.providers import PROVIDERS
from tests.disc import Disc, results, save_photo, save_photos


@pytest.fixture(autouse=True)
def disc(monkeypatch):
    provider = Disc()
    monkeypatch.setitem(PROVIDERS, "disc", provider)
    return provider


@pytest.fixture
def rmbg(capsys):
    """Run a command in this process; returns exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        try:
            status = main([*map(str, arguments), "--provider", "disc"])
        except SystemExit as stop:
            status = stop.code
        return (status, *capsys.readouterr())

    return run


def opaque(path) -> float:
    """Mean alpha of a written picture, 0 to 1."""
    with Image.open(path) as image:
        return float(np.asarray(image)[..., 3].mean()) / 255


def test_remove_applies_and_reports_edges(rmbg, tmp_path):
    photo = save_photo(tmp_path / "photo.png")
    assert rmbg("remove", photo, tmp_path / "plain.png") == (0, "", "")
    status, out, _ = rmbg("remove", photo, tmp_path / "grown.png", "--shift", "2.5", "--specks", "5", "--json")
    assert status == 0 and json.loads(out)["edges"] == {"shift": 2.5, "specks": 5}
    assert rmbg("remove", photo, tmp_path / "shrunk.png", "--shift", "-2")[0] == 0
    assert rmbg("remove", photo, tmp_path / "inverse.png", "--invert")[0] == 0
    plain = opaque(tmp_path / "plain.png")
    assert opaque(tmp_path / "shrunk.png") < 0.9 * plain < 0.9 * opaque(tmp_path / "grown.png")
    assert opaque(tmp_path / "inverse.png") == pytest.approx(1 - plain, abs=0.01)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--shift", "51"], "shift is 51.0; it must be a number of pixels from -50 to 50."),
        (["--shift=-1e9"], "shift is -1000000000.0; it must be a number of pixels from -50 to 50."),
        (["--feather", "nan"], "feather is nan; it must be a number of pixels from 0 to 100."),
        (["--specks", "-1"], "specks is -1; it must be a whole number of pixels from 0 to 100,000,000."),
        (["--smooth", "soft"], "invalid float value"),
    ],
)
def test_values_out_of_range_are_wrong_usage(rmbg, tmp_path, disc, arguments, message):
    photo = save_photo(tmp_path / "photo.png")
    for words in (["remove", photo, tmp_path / "out.png"], ["batch", photo, tmp_path / "out"]):
        status, out, err = rmbg(*words, *arguments)
        assert status == 2 and out == "" and message in err
    assert not disc.calls and not (tmp_path / "out.png").exists()


def test_alpha_matting_by_rembgs_names(rmbg, tmp_path):
    photo = save_photo(tmp_path / "photo.png")
    words = ("--alpha-matting", "--alpha-matting-erode-size", "7", "--alpha-matting-foreground-threshold", "200")
    status, out, _ = rmbg("remove", photo, tmp_path / "soft.png", *words, "--shift", "1", "--json")
    facts = json.loads(out)
    assert status == 0 and facts["edges"] == {"shift": 1.0}
    assert facts["alpha_matting"] == {"foreground_threshold": 200, "background_threshold": 10, "erode_size": 7}
    status, out, _ = rmbg("batch", photo, tmp_path / "out", *words, "--json")
    assert status == 0 and json.loads(out)["alpha_matting"] == facts["alpha_matting"]
    status, _, err = rmbg("remove", photo, tmp_path / "o.png", "--alpha-matting", "--alpha-matting-method", "best")
    assert status == 2 and "invalid choice: 'best'" in err
    status, _, err = rmbg("remove", photo, tmp_path / "o.png", "--alpha-matting-erode-size", "7")
    assert status == 2 and "needs --alpha-matting" in err
    status, _, err = rmbg("remove", photo, tmp_path / "o.png", "--alpha-matting", "--alpha-matting-erode-size", "256")
    assert status == 2 and "it must be a whole number of pixels from 1 to 255." in err


def test_batch_records_edges_and_makes_results_again_when_they_change(rmbg, tmp_path, disc):
    photos, out = save_photos(tmp_path / "in", 3), tmp_path / "out"
    assert rmbg("batch", photos, out)[0] == 0
    before = [opaque(out / name) for name in results(out)]
    status, text, _ = rmbg("batch", photos, out, "--shift", "3", "--json")
    figures = json.loads(text)
    assert status == 0 and figures["edges"] == {"shift": 3.0} and figures["done"] == 3
    assert all(opaque(out / name) > 1.1 * area for name, area in zip(results(out), before, strict=True))
    with contextlib.closing(sqlite3.connect(out / ".rmbg-batch" / "manifest.sqlite3")) as manifest:
        assert manifest.execute("SELECT value FROM facts WHERE name = 'edges'").fetchone() == ('{"edges": {"shift": 3.0}}',)
    assert json.loads(rmbg("batch", photos, out, "--shift", "3", "--json")[1])["kept"] == 3
