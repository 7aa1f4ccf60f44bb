"""A background made up by fal: what is asked for, what comes back, what it cost; and the commands for it and for the spend."""

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
from rmbg.cutout import Cost
from rmbg.errors import OptionError, ServiceError
from tests.remote import WAYS, environment, hurry, picture, settings  # noqa: F401
from tests.servers.fal import FAL_FAULTS, Fal
from tests.servers.service import KEY
from tests.test_remote import MONEY, line

pytestmark = pytest.mark.usefixtures("hurry")


@pytest.fixture
def fal():
    with Fal() as service:
        service.unit_price = 0.023
        yield service


def replace(fal: Fal, folder: Path, prompt: str = "a wall", reference=None, **options):
    return replace_background(picture(), prompt, reference, options, settings=settings(fal, folder))


def test_a_prompt(fal, tmp_path):
    replaced = replace(fal, tmp_path, num_images="3", seed="7", negative_prompt="people", refine_prompt="no", fast="off")
    (job,) = fal.jobs
    sent = {name: value for name, value in job["arguments"].items() if name != "image_url"}
    assert sent == {
        "prompt": "a wall", "negative_prompt": "people", "refine_prompt": False, "fast": False, "num_images": 3,
        "sync_mode": True, "seed": 7,
    }  # fmt: skip
    assert len(replaced.pictures) == 3 and replaced.seed == 7 and not replaced.notes
    assert replaced.pictures[0].rgb.shape == (64, 96, 3)
    assert replaced.cost == Cost(Decimal("0.023"), "charged")  # one unit, says the stand-in


def test_a_reference_and_the_other_ways(fal, tmp_path):
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
        ("a wall", None, {"colour": "red"}),
    ],
)
def test_what_makes_no_sense_is_not_sent(fal, tmp_path, prompt, reference, options):
    with pytest.raises(OptionError):
        replace(fal, tmp_path, prompt, reference, **options)
    assert not fal.seen


@pytest.mark.parametrize("name", ["401", "no balance", "422 with the picture", "page of a gateway", "dropped connection"])
@pytest.mark.parametrize("step", ["submit", "stored"])
def test_faults(fal, tmp_path, name, step):
    fal.faults[step] = FAL_FAULTS[name]
    with pytest.raises(ServiceError) as caught:
        replace(fal, tmp_path)
    assert MONEY.search(str(caught.value)) and KEY not in str(caught.value) and len(fal.jobs) <= 1
    assert line(tmp_path)[0] == ("nothing" if caught.value.cost is None else "unknown")


@pytest.fixture
def shell(fal, tmp_path, monkeypatch):
    """The environment of a command; returns the folder with the photo."""
    for name, value in environment(fal, tmp_path / "data").items():
        monkeypatch.setenv(name, value)
    (tmp_path / "photo.png").write_bytes(picture())
    return tmp_path


def test_the_command(fal, shell, capsys):
    words = ["replace", str(shell / "photo.png"), str(shell / "out.jpg"), "--prompt", "a wall", "--num-images", "2", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"] == [str(shell / "out.jpg"), str(shell / "out-2.jpg")] and told["seed"] == 4711
    assert told["cost"] == {"usd": 0.023, "basis": "charged"}
    assert Image.open(shell / "out-2.jpg").size == (96, 64)
    assert main([*words[:3], "--seed", "many", "--prompt", "x"]) == 2
    assert main([*words[:2], str(shell / "none" / "out.png"), "--prompt", "x"]) == 1
    assert main(words[:3]) == 2
    assert len(fal.jobs) == 1
    assert "Give either a prompt or a reference picture" in capsys.readouterr().err


def test_the_commands_remove_and_spent(fal, shell, capsys, monkeypatch):
    assert main(["spent"]) == 0 and "Nothing" in capsys.readouterr().out
    words = ["remove", str(shell / "photo.png"), str(shell / "out.png"), "--provider", "fal-rmbg-2.0", "--json"]
    assert main([*words, "--option", "mode=direct", "--option", "sync_mode=false"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["cost"] == {"usd": 0.023, "basis": "charged"} and told["engine"] == ""
    fal.faults["stored"] = FAL_FAULTS["dropped connection"]
    assert main(words) == 1
    err = capsys.readouterr().err
    assert err == "rmbg: The connection to fal broke off before its answer had arrived. You may have been charged $0.018.\n"
    monkeypatch.setenv("RMBG_DAILY_BUDGET_USD", "0.05")
    assert main(words) == 1
    assert "The limit of $0.05 a day" in capsys.readouterr().err and len(fal.jobs) == 2
    assert main(["spent"]) == 0
    out = capsys.readouterr().out
    assert "fal-rmbg-2.0  2      $0.023  1           $0.018  $2300.00" in out
    assert "$0.041 of $0.05" in out
    assert main(["spent", "--json", "--days", "1"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["providers"]
    assert told["calls"] == 2 and told["open_usd"] == 0.018 and told["month_usd"] == 2300


def test_no_key_anywhere_in_a_run(fal, shell):
    """Everything that a run leaves: what it prints, with all that Python can be made to log, its files, its requests."""
    fal.faults["result"] = lambda s, x: s.refuse(x, 500, f"Bad {KEY}")
    code = "import logging; logging.basicConfig(level=0); from rmbg.__main__ import main; main()"
    command = [sys.executable, "-X", "dev", "-c", code, "remove", "photo.png", "out.png", "--provider", "fal-rmbg-2.0"]
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        command, cwd=shell, capture_output=True, env={**_environ(fal, shell), "PYTHONPATH": root}, check=False
    )
    assert b"fal failed (HTTP 500" in done.stderr and len(fal.jobs) == 1
    left = [done.stdout, done.stderr, *(path.read_bytes() for path in shell.rglob("*") if path.is_file())]
    left += [seen.path.encode() + seen.body for seen in fal.seen]
    for secret in (KEY, *KEY.split(":")):
        assert not any(secret.encode() in text for text in left)


def _environ(fal: Fal, folder: Path) -> dict[str, str]:
    return {**os.environ, **environment(fal, folder / "data"), "PYTHONPATH": str(Path(__file__).resolve().parents[1])}


def test_pictures_of_another_size_and_fewer_of_them(fal, tmp_path, monkeypatch):
    out = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(out, "PNG")
    fal.picture = out.getvalue()
    monkeypatch.setattr(Fal, "_replaced", _one(Fal._replaced))
    replaced = replace(fal, tmp_path, num_images=4)
    assert replaced.notes == ("fal sent 1 of 4 pictures.", "fal sent 32 x 32 pixels for a photo of 96 x 64.")


def test_a_picture_that_is_gone_does_not_lose_the_others(fal, tmp_path, monkeypatch):
    made = Fal._url
    urls = []

    def some_gone(self, data, arguments):
        urls.append(made(self, data, arguments))
        return urls[-1] if len(urls) > 1 else f"{self.url}/files/gone.png"

    monkeypatch.setattr(Fal, "_url", some_gone)
    replaced = replace(fal, tmp_path, num_images=3, sync_mode=False)
    assert [p.name.rpartition("-")[2] for p in replaced.pictures] == ["2", "3"]
    assert replaced.notes == ("1 of 3 pictures could not be fetched from fal.",)


def _one(answer):
    def fewer(self, exchange, arguments, data, headers):
        answer(self, exchange, {**arguments, "num_images": 1}, data, headers)

    return fewer
