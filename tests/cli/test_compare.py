"""``rmbg compare``: files, table, JSON, consent, failures."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from rmbg.__main__ import main
from rmbg.cli import terminal
from rmbg.providers import PROVIDERS
from tests.benchmark.fakes import Fake
from tests.pictures import scene


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "mug.png"
    Image.fromarray(scene(120, 160)[0]).save(path)
    return str(path)


@pytest.fixture(autouse=True)
def fakes(monkeypatch):
    made = [Fake("near"), Fake("far", "remote", "0.02"), Fake("down", "remote", fail={"mug"}), Fake("free")]
    for fake in made:
        monkeypatch.setitem(PROVIDERS, fake.info.id, fake)
    return {fake.info.id: fake for fake in made}


def test_output_files_and_table(photo, tmp_path, capsys):
    assert main(["compare", photo, "--providers", "near,free,far", "--out", str(tmp_path / "out"), "--yes"]) == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "mug-contact-sheet.png",
        "mug-difference-near-far.png",
        "mug-difference-near-free.png",
        "mug-far.png",
        "mug-free.png",
        "mug-near.png",
        "mug-table.csv",
    ]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["PROVIDER", "SECONDS", "COST", "IOU", "WITH", "NEAR", "EDGE", "DIFFERENCE", "SOFT", "%"]
    assert [line.split()[0] for line in lines[1:]] == ["near", "free", "far"]


def test_json_holds_results_and_errors(photo, tmp_path, capsys):
    arguments = ["compare", photo, "--providers", "down,near", "--out", str(tmp_path), "--yes", "--json"]
    assert main([*arguments, "--reference", "near"]) == 0
    out, err = capsys.readouterr()
    results = json.loads(out)["results"]
    assert results[0] == {"provider": "down", "error": "The service is down."}
    assert results[1]["iou"] == 100 and results[1]["cost"] == {"usd": None, "basis": "unknown"}
    assert "rmbg: Down: The service is down." in err


def test_background_applies_to_all_results(photo, tmp_path):
    main(["compare", photo, "--providers", "near,free", "--out", str(tmp_path / "out"), "--background", "#00ff00"])
    for name in ("near", "free"):
        pixels = np.asarray(Image.open(tmp_path / "out" / f"mug-{name}.png"))
        assert pixels.shape == (120, 160, 3)


def test_paid_providers_run_after_consent_only(photo, tmp_path, capsys, fakes, monkeypatch):
    arguments = ["compare", photo, "--providers", "near,far,down", "--out", str(tmp_path)]
    assert main(arguments) == 2
    assert "expected to cost about $0.02 and an unknown price at Down; add --yes" in capsys.readouterr().err

    class Terminal:
        def isatty(self):
            return True

        def readline(self):
            return "n\n"

    monkeypatch.setattr(terminal.sys, "stdin", Terminal())
    assert main(arguments) == 1
    assert "Nothing was sent." in capsys.readouterr().err
    assert not any(fake.calls for fake in fakes.values())
    monkeypatch.setattr(Terminal, "readline", lambda self: "y\n")
    assert main(arguments) == 0
    assert fakes["far"].calls == ["mug"]


def test_free_providers_run_without_confirmation(photo, tmp_path):
    assert main(["compare", photo, "--providers", "near", "--out", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--providers", "near,missing"], 2, "no provider 'missing'"),
        (["--providers", ","], 2, "at least one"),
        (["--reference", "far"], 2, "must be one of near"),
        (["--providers", "down", "--yes"], 1, "None of the providers returned a cutout"),
    ],
)
def test_error_message_and_exit_status(photo, tmp_path, capsys, options, status, message):
    assert main(["compare", photo, "--providers", "near", "--out", str(tmp_path), *options]) == status
    assert message in capsys.readouterr().err


def test_unwritable_folder_is_detected_before_any_provider_runs(photo, tmp_path, capsys, fakes, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)  # permissions do not restrict root
    assert main(["compare", photo, "--providers", "near,far", "--out", str(tmp_path), "--yes"]) == 1
    assert "may not be written to" in capsys.readouterr().err
    assert not fakes["near"].calls and not fakes["far"].calls
