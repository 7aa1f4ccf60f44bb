"""Background replacement by fal: request, result, cost; and the commands ``replace`` and ``spent``."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest
from PIL import Image

from rmbg import replace_background
from rmbg.__main__ import main
from rmbg.billing.cost import Cost
from rmbg.errors import OptionError, ServiceError
from tests.providers.test_remote import CHARGE_SENTENCE, ledger_row
from tests.remote import PROTOCOLS, environment, picture, settings, short_delays  # noqa: F401
from tests.servers.fal import FAL_FAULTS, Fal
from tests.servers.service import KEY

pytestmark = pytest.mark.usefixtures("short_delays")


@pytest.fixture
def fal():
    with Fal() as service:
        service.unit_price = 0.023
        yield service


def replace(fal: Fal, folder: Path, prompt: str = "a wall", reference=None, **options):
    return replace_background(picture(), prompt, reference, options, settings=settings(fal, folder))


def test_prompt_and_options_are_sent(fal, tmp_path):
    replaced = replace(fal, tmp_path, num_images="3", seed="7", negative_prompt="people", refine_prompt="no", fast="off")
    (job,) = fal.jobs
    sent = {name: value for name, value in job["arguments"].items() if name != "image_url"}
    assert sent == {
        "prompt": "a wall", "negative_prompt": "people", "refine_prompt": False, "fast": False, "num_images": 3,
        "sync_mode": True, "seed": 7,
    }  # fmt: skip
    assert len(replaced.pictures) == 3 and replaced.seed == 7 and not replaced.notes
    assert replaced.pictures[0].rgb.shape == (64, 96, 3)
    assert replaced.cost == Cost(Decimal("0.023"), "charged")  # the server reports one billed unit


def test_reference_picture_with_upload_and_direct_mode(fal, tmp_path):
    fal.units = None
    replaced = replace(fal, tmp_path, "", picture(64, 64), num_images=2, sync_mode=False, input="upload", mode="direct")
    arguments = fal.jobs[0]["arguments"]
    assert "prompt" not in arguments and "seed" not in arguments
    assert arguments["image_url"].startswith(fal.url) and arguments["ref_image_url"].startswith(fal.url)
    assert replaced.seed == 4711 and replaced.cost == Cost(Decimal("0.046"), "listed")
    assert all(KEY not in str(s.headers) for s in fal.seen if s.path.startswith("/files"))


@pytest.mark.parametrize(
    ("prompt", "reference", "options"),
    [
        ("", None, {}),
        ("  ", None, {}),
        ("a wall", picture(), {}),
        ("a wall", None, {"num_images": 5}),
        ("a wall", None, {"num_images": 0}),
        ("a wall", None, {"seed": "-1"}),
        ("a wall", None, {"seed": "2147483648"}),
        ("a wall", None, {"seed": "x"}),
        ("a wall", None, {"seed": "9" * 5000}),
        ("a wall", None, {"color": "red"}),
    ],
)
def test_invalid_options_are_rejected_before_sending(fal, tmp_path, prompt, reference, options):
    with pytest.raises(OptionError):
        replace(fal, tmp_path, prompt, reference, **options)
    assert not fal.seen


@pytest.mark.parametrize("name", ["401", "no balance", "422 with the picture", "gateway error page", "dropped connection"])
@pytest.mark.parametrize("step", ["submit", "stored"])
def test_fault_is_one_error_with_charge_and_without_key(fal, tmp_path, name, step):
    fal.faults[step] = FAL_FAULTS[name]
    with pytest.raises(ServiceError) as caught:
        replace(fal, tmp_path)
    assert CHARGE_SENTENCE.search(str(caught.value)) and KEY not in str(caught.value) and len(fal.jobs) <= 1
    assert ledger_row(tmp_path)[0] == ("nothing" if caught.value.cost is None else "unknown")


@pytest.fixture
def shell(fal, tmp_path, monkeypatch):
    """Set the environment of a command and return the folder with the photo."""
    for name, value in environment(fal, tmp_path / "data").items():
        monkeypatch.setenv(name, value)
    (tmp_path / "photo.png").write_bytes(picture())
    return tmp_path


def test_replace_command(fal, shell, capsys):
    arguments = [
        "replace",
        str(shell / "photo.png"),
        str(shell / "out.jpg"),
        "--prompt",
        "a wall",
        "--num-images",
        "2",
        "--json",
    ]
    assert main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["files"] == [str(shell / "out.jpg"), str(shell / "out-2.jpg")] and result["seed"] == 4711
    assert result["cost"] == {"usd": 0.023, "basis": "charged"}
    assert Image.open(shell / "out-2.jpg").size == (96, 64)
    assert main([*arguments[:3], "--seed", "many", "--prompt", "x"]) == 2
    assert main([*arguments[:2], str(shell / "none" / "out.png"), "--prompt", "x"]) == 1
    assert main(arguments[:3]) == 2
    assert len(fal.jobs) == 1
    assert "Give either a prompt or a reference picture" in capsys.readouterr().err


def test_remove_and_spent_commands_report_the_same_cost(fal, shell, capsys, monkeypatch):
    assert main(["spent"]) == 0 and "No calls" in capsys.readouterr().out
    arguments = ["remove", str(shell / "photo.png"), str(shell / "out.png"), "--provider", "fal-rmbg-2.0", "--json"]
    assert main([*arguments, "--option", "mode=direct", "--option", "sync_mode=false"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["cost"] == {"usd": 0.023, "basis": "charged"} and result["engine"] == ""
    fal.faults["stored"] = FAL_FAULTS["dropped connection"]
    assert main(arguments) == 1
    err = capsys.readouterr().err
    assert err == "rmbg: The connection to fal was lost before the response was complete. You may have been charged $0.023.\n"
    monkeypatch.setenv("RMBG_DAILY_BUDGET_USD", "0.05")
    assert main(arguments) == 1
    assert "The limit of $0.05 a day" in capsys.readouterr().err and len(fal.jobs) == 2
    assert main(["spent"]) == 0
    out = capsys.readouterr().out
    assert "fal-rmbg-2.0  2      $0.023  1           $0.023  $2,300" in out
    assert "$0.046 of $0.05" in out
    assert main(["spent", "--json", "--days", "1"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["providers"]
    assert result["calls"] == 2 and result["open_usd"] == 0.023 and result["month_usd"] == 2300


def test_key_is_not_in_output_logs_files_or_bodies(fal, shell):
    """Checks standard output and error with full logging, all files, and the paths and bodies of all requests."""
    fal.faults["result"] = lambda s, x: s.refuse(x, 500, f"Bad {KEY}")
    code = "import logging; logging.basicConfig(level=0); from rmbg.__main__ import main; main()"
    command = [sys.executable, "-X", "dev", "-c", code, "remove", "photo.png", "out.png", "--provider", "fal-rmbg-2.0"]
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        command, cwd=shell, capture_output=True, env={**_environ(fal, shell), "PYTHONPATH": root}, check=False
    )
    assert b"fal failed (HTTP 500" in done.stderr and len(fal.jobs) == 1
    outputs = [done.stdout, done.stderr, *(path.read_bytes() for path in shell.rglob("*") if path.is_file())]
    outputs += [seen.path.encode() + seen.body for seen in fal.seen]
    for secret in (KEY, *KEY.split(":")):
        assert not any(secret.encode() in text for text in outputs)


def _environ(fal: Fal, folder: Path) -> dict[str, str]:
    return {**os.environ, **environment(fal, folder / "data"), "PYTHONPATH": str(Path(__file__).resolve().parents[1])}


def test_wrong_size_and_missing_pictures_are_noted(fal, tmp_path, monkeypatch):
    out = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(out, "PNG")
    fal.picture = out.getvalue()
    monkeypatch.setattr(Fal, "_replaced", _single_picture(Fal._replaced))
    replaced = replace(fal, tmp_path, num_images=4)
    assert replaced.notes == ("fal returned 1 of 4 pictures.", "fal returned 32 x 32 pixels for a photo of 96 x 64.")


def test_missing_picture_does_not_discard_the_others(fal, tmp_path, monkeypatch):
    made = Fal._url
    urls = []

    def first_is_missing(self, data, arguments):
        urls.append(made(self, data, arguments))
        return urls[-1] if len(urls) > 1 else f"{self.url}/files/missing.png"

    monkeypatch.setattr(Fal, "_url", first_is_missing)
    replaced = replace(fal, tmp_path, num_images=3, sync_mode=False)
    assert [p.name.rpartition("-")[2] for p in replaced.pictures] == ["2", "3"]
    assert replaced.notes == ("1 of 3 pictures could not be downloaded from fal.",)


def _single_picture(answer):
    def respond(self, exchange, arguments, data, headers):
        answer(self, exchange, {**arguments, "num_images": 1}, data, headers)

    return respond
