"""The batch command: results, repeated runs, failures, and wrong usage."""

from __future__ import annotations

import csv
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.disc import results, save_photo, save_photos
from tests.sentences import sentence

RESULTS = ["a/0001.png", "a/0003.png", "a/0005.png", "b/c/0000.png", "b/c/0002.png", "b/c/0004.png"]


@pytest.fixture
def photos(tmp_path):
    return save_photos(tmp_path / "in", 6)


def last_sentence(err: str) -> str:
    return sentence(err.strip().splitlines()[-1])


def test_subfolders_are_preserved(batch, photos, tmp_path, disc):
    status, out, err = batch(photos, tmp_path / "out")
    assert (status, out) == (0, ""), err
    assert results(tmp_path / "out") == RESULTS
    pixels = np.asarray(Image.open(tmp_path / "out/a/0001.png"))
    assert pixels.shape == (36, 48, 4) and pixels[0, 0, 3] == 0 and pixels[18, 24, 3] == 255
    assert len(disc.calls) == 6


def test_result_equals_that_of_remove(batch, rmbg, photos, tmp_path):
    options = ("--background", "#ff8800", "--crop", "0.1", "--format", "webp")
    assert batch(photos, tmp_path / "out", *options)[0] == 0
    assert rmbg("remove", photos / "a/0001.png", tmp_path / "one.webp", "--provider", "disc", *options)[0] == 0
    assert (tmp_path / "out/a/0001.webp").read_bytes() == (tmp_path / "one.webp").read_bytes()


def test_second_run_processes_only_changed_photos(batch, photos, tmp_path, disc):
    assert batch(photos, tmp_path / "out")[0] == 0
    disc.calls.clear()
    assert batch(photos, tmp_path / "out")[0] == 0
    assert disc.calls == []
    save_photo(photos / "a/0003.png", 99)
    os.utime(photos / "a/0001.png")  # another mtime, the same content
    assert batch(photos, tmp_path / "out")[0] == 0
    assert disc.calls == ["0003"]


def test_changed_settings_repeat_all_photos(batch, photos, tmp_path, disc):
    assert batch(photos, tmp_path / "out")[0] == 0
    status, _, err = batch(photos, tmp_path / "out", "--mask-only")
    assert status == 0 and "The settings have changed. 6 of 6 photos are processed again." in err
    assert len(disc.calls) == 12 and Image.open(tmp_path / "out/a/0001.png").mode == "L"


def test_missing_and_truncated_results_are_repeated(batch, photos, tmp_path, disc):
    assert batch(photos, tmp_path / "out")[0] == 0
    (tmp_path / "out/a/0001.png").unlink()
    (tmp_path / "out/a/0003.png").write_bytes(b"truncated")
    disc.calls.clear()
    assert batch(photos, tmp_path / "out")[0] == 0
    assert sorted(disc.calls) == ["0001", "0003"]


def test_invalid_files_do_not_end_the_batch(batch, photos, tmp_path):
    (photos / "a/broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (photos / "a/empty.png").touch()
    Image.new("RGB", (40, 40)).save(photos / "a/dark.png")
    status, out, err = batch(photos, tmp_path / "out", "--json")
    figures = json.loads(out)
    assert status == 1 and len(results(tmp_path / "out")) == 6
    assert (figures["done"], figures["failed"], figures["left"], figures["photos"]) == (6, 3, 0, 9)
    assert {f["name"]: f["state"] for f in figures["failures"]} == {
        "a/broken.jpg": "failed",
        "a/empty.png": "failed",
        "a/dark.png": "nothing",
    }
    assert "3 of 9 photos have no result" in last_sentence(err) and err.count("\n") == 4
    assert json.loads((tmp_path / "out/rmbg-summary.json").read_text()) == figures
    rows = list(csv.DictReader((tmp_path / "out/rmbg-summary.csv").open()))
    assert [row["state"] for row in rows].count("done") == 6 and len(rows) == 9
    assert next(row for row in rows if row["name"] == "a/dark.png")["message"] == "The photo is black."


def test_failures_are_retried_except_photos_without_a_subject(batch, photos, tmp_path, disc):
    Image.new("RGB", (40, 40)).save(photos / "dark.png")
    (photos / "late.png").write_bytes(b"")
    assert batch(photos, tmp_path / "out")[0] == 1
    disc.calls.clear()
    save_photo(photos / "late.png", 7)
    assert batch(photos, tmp_path / "out")[0] == 1
    assert disc.calls == ["late"]


def test_inputs_with_the_same_output_name(batch, tmp_path):
    for number, name in enumerate(("x.png", "x.bmp", "X.tif")):
        save_photo(tmp_path / "in" / name, number)
    status, _, err = batch(tmp_path / "in", tmp_path / "out")
    assert status == 0 and len(results(tmp_path / "out")) == 3
    assert err.count("has the output name of another photo") == 2
    before = {name: (tmp_path / "out" / name).read_bytes() for name in results(tmp_path / "out")}
    save_photo(tmp_path / "in/x.webp", 9)  # does not replace an existing result
    assert batch(tmp_path / "in", tmp_path / "out")[0] == 0
    assert len(results(tmp_path / "out")) == 4
    assert all((tmp_path / "out" / name).read_bytes() == data for name, data in before.items())


def test_output_folder_inside_the_input_folder(batch, photos, disc):
    assert batch(photos, photos / "results")[0] == 0
    assert batch(photos, photos / "results")[0] == 0
    assert len(disc.calls) == 6 and len(results(photos / "results")) == 6


def test_output_must_not_contain_the_input_folder(batch, photos, disc):
    for target in (photos, photos / "a" / "..", photos.parent):
        status, _, err = batch(photos, target)
        assert status == 2 and "input folder" in last_sentence(err)
    assert disc.calls == [] and not (photos / ".rmbg-batch").exists()


def test_single_inputs_are_not_overwritten(batch, photos, tmp_path, monkeypatch, disc):
    monkeypatch.chdir(photos / "a")
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    Path("list.txt").write_text("0001.png\n0003.png\n")
    shutil.make_archive("photos", "zip", photos / "b")
    for source, target in (("0001.png", "."), ("list.txt", ".."), ("*.png", "."), ("photos.zip", "photos.zip")):
        status, _, err = batch(source, target)
        assert status == 2 and last_sentence(err), source
    assert disc.calls == [] and before == {path: path.read_bytes() for path in photos.rglob("*.png")}
    assert batch("list.txt", "results")[0] == 0
    assert batch("*.png", "results")[0] == 0
    assert batch("photos.zip", ".")[0] == 0  # an archive and its own folder
    assert results(Path("results")) == ["0001.png", "0003.png", "0005.png"]


@pytest.mark.parametrize(
    ("create", "words"),
    [
        (lambda root: (root / "in").mkdir(), "There is no picture"),
        (lambda root: (root / "in").mkdir() or (root / "in/notes.txt").write_text("x"), "There is no picture"),
        (lambda root: None, "There is no file or folder"),
        (lambda root: (root / "in").write_bytes(b"\xff\xfe\x00 junk"), "or UTF-8 list of paths"),
        (lambda root: (root / "in").write_bytes(b"PK\x03\x04 junk"), "is not a valid zip archive"),
    ],
)
def test_invalid_inputs(batch, tmp_path, create, words):
    create(tmp_path)
    status, out, err = batch(tmp_path / "in", tmp_path / "out")
    assert (status, out) == (1, "") and words in last_sentence(err) and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--quality", "0"),
        ("--crop", "-1"),
        ("--jobs", "0"),
        ("--jobs", "1000"),
        ("--max-cost", "much"),
        ("--max-cost", "nan"),
        ("--format", "gif"),
        ("--background", "nothing"),
        ("--option", "depth=3"),
        ("--option", "depth"),
    ],
)
def test_invalid_options_are_wrong_usage(batch, photos, tmp_path, arguments, disc):
    status, out, err = batch(photos, tmp_path / "out", *arguments)
    assert (status, out) == (2, "") and last_sentence(err) and disc.calls == []


def test_invalid_names_are_wrong_usage(rmbg, photos, tmp_path):
    for arguments in (
        (photos, tmp_path / "out", "--provider", "unknown"),
        ("https://example.com/a.png", tmp_path / "out"),
        (photos, "https://example.com/out"),
        (photos, "nosuch://bucket/out"),
        (photos,),
    ):
        status, _, err = rmbg("batch", *arguments)
        assert status == 2 and last_sentence(err)


def test_globs_single_pictures_and_lists(batch, photos, tmp_path, disc, monkeypatch):
    assert batch(f"{photos}/**/000[0-3].png", tmp_path / "glob")[0] == 0
    assert results(tmp_path / "glob") == ["a/0001.png", "a/0003.png", "b/c/0000.png", "b/c/0002.png"]
    assert batch(f"{photos}/*/*.png", tmp_path / "shallow")[0] == 0
    assert results(tmp_path / "shallow") == ["a/0001.png", "a/0003.png", "a/0005.png"]
    assert batch(photos / "a/0001.png", tmp_path / "one")[0] == 0
    assert results(tmp_path / "one") == ["0001.png"]
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text(f"# a comment\n\nin/a/0001.png\n{photos}/b/c/0002.png\nin/gone.png\nin/a/0001.png\n")
    status, _, err = batch("list.txt", "listed")
    assert status == 1 and "in/gone.png could not be read" in err
    assert results(Path("listed")) == sorted(["in/a/0001.png", f"{photos}/b/c/0002.png".lstrip("/")])


def test_archive_as_input_and_output(batch, photos, tmp_path, disc):
    shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    assert batch(tmp_path / "photos.zip", tmp_path / "out.zip")[0] == 0
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        first = {name: archive.read(name) for name in archive.namelist()}
    assert sorted(first) == RESULTS
    assert len(disc.calls) == 6
    assert batch(tmp_path / "photos.zip", tmp_path / "out.zip")[0] == 0
    assert len(disc.calls) == 6
    save_photo(photos / "new.png", 50)
    shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    assert batch(tmp_path / "photos.zip", tmp_path / "out.zip")[0] == 0
    assert disc.calls[6:] == ["new"]
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        second = {name: archive.read(name) for name in archive.namelist()}
    assert second.pop("new.png") and second == first
    assert (tmp_path / "out-summary.csv").exists()


def test_auto_keeps_the_provider_of_the_first_run(rmbg, photos, tmp_path, monkeypatch, disc):
    from rmbg import providers

    monkeypatch.setattr(providers, "AUTO", ("disc",))
    assert rmbg("batch", photos, tmp_path / "out")[0] == 0
    monkeypatch.setattr(providers, "AUTO", ("builtin",))
    assert rmbg("batch", photos, tmp_path / "out")[0] == 0
    assert len(disc.calls) == 6


def test_consecutive_failures_of_the_provider_end_the_batch(rmbg, tmp_path, disc):
    for number in range(30):
        save_photo(tmp_path / "in" / f"{number:02d}.png", number)
    disc.broken = [f"{number:02d}" for number in range(30)]
    status, out, err = rmbg("batch", tmp_path / "in", tmp_path / "out", "--provider", "disc", "--jobs", "1", "--json")
    figures = json.loads(out)
    assert status == 1 and figures["failed"] == 5 and figures["left"] == 25 and len(disc.calls) == 5
    assert "consecutive photos failed. The network failed." in last_sentence(err)
    disc.broken = [f"{number:02d}" for number in range(8)]  # failed photos come last in the next run
    status, out, _ = rmbg("batch", tmp_path / "in", tmp_path / "out", "--provider", "disc", "--jobs", "1", "--json")
    # Two more threads read ahead; each may hold a photo that it has read when the last failure ends the run.
    assert status == 1 and json.loads(out)["done"] >= 20


def test_jobs_limits_concurrency(batch, tmp_path, disc):
    save_photos(tmp_path / "in", 12)
    disc.seconds, disc.gather = 0.1, 3
    assert batch(tmp_path / "in", tmp_path / "out", "--jobs", "3")[0] == 0
    assert disc.max_concurrent == 3


def test_folder_with_twenty_thousand_entries(batch, tmp_path):
    folder = tmp_path / "in"
    save_photo(folder / "first.png")
    for number in range(20_000):
        if number % 1000 == 0:
            (folder / f"{number:05d}").mkdir()
        (folder / f"{number - number % 1000:05d}" / f"{number:05d}.txt").touch()
    for number in range(20):
        (folder / f"{number * 1000:05d}" / "empty.jpg").touch()
    status, out, _ = batch(folder, tmp_path / "out", "--json")
    assert status == 1 and json.loads(out)["done"] == 1 and json.loads(out)["failed"] == 20


def test_csv_summary_contains_no_formulas(batch, tmp_path):
    save_photo(tmp_path / "in" / "=1+1.png")
    (tmp_path / "in" / "@SUM(1).png").write_bytes(b"no picture")
    assert batch(tmp_path / "in", tmp_path / "out")[0] == 1
    text = (tmp_path / "out/rmbg-summary.csv").read_text()
    assert "'=1+1.png" in text and "'@SUM" in text
