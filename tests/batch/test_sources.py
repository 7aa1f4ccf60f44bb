"""Sources of a batch, with hostile and damaged inputs."""

from __future__ import annotations

import errno
import io
import os
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import pytest
from PIL import Image

from rmbg.batch.pipeline import REMOTE_READERS
from rmbg.batch.sources import MAX_HOST_FAILURES, matches_glob, open_source, safe_target, unique_targets, walk
from rmbg.errors import PhotoError
from rmbg.settings import Settings
from tests.disc import results, save_photo, save_photos
from tests.sentences import sentence
from tests.servers.web import Web

SETTINGS = Settings.from_environ({})


def png(number: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), (number, 90, 200)).save(out, "PNG")
    return out.getvalue()


# --- folders -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="requires symbolic links")
def test_loops_of_links_are_visited_once(tmp_path):
    save_photo(tmp_path / "z/photo.png")
    (tmp_path / "z/loop").symlink_to(tmp_path)
    (tmp_path / "a").symlink_to(tmp_path / "z")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "linked.png").symlink_to(tmp_path / "z/photo.png")
    names = [entry.name for entry in open_source(str(tmp_path), SETTINGS).entries()]
    assert names == ["linked.png", "z/photo.png"]


@pytest.mark.skipif(os.name == "nt", reason="requires symbolic links")
def test_linked_folder_is_read(tmp_path):
    save_photo(tmp_path / "elsewhere/photo.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/linked").symlink_to(tmp_path / "elsewhere")
    assert [entry.name for entry in open_source(str(tmp_path / "in"), SETTINGS).entries()] == ["linked/photo.png"]


def test_hidden_files_and_other_formats_are_skipped(tmp_path):
    for name in ("a.png", "B.JPG", ".hidden.png", ".folder/c.png", "notes.txt", "d"):
        save_photo(tmp_path / "x.png").rename(tmp_path / "x.bin")
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / "x.bin").rename(tmp_path / name)
    assert [entry.name for entry in open_source(str(tmp_path), SETTINGS).entries()] == ["B.JPG", "a.png"]


def test_deleted_and_unreadable_files(batch, tmp_path):
    save_photos(tmp_path / "in", 4)
    source = open_source(str(tmp_path / "in"), SETTINGS)
    entries = source.entries()
    Path(entries[0].locator).unlink()
    with pytest.raises(PhotoError, match="There is no file") as gone:
        source.read(entries[0])
    sentence(str(gone.value).replace(str(tmp_path), "TMP"))
    if os.name != "nt":
        (tmp_path / "in/gone.png").symlink_to(tmp_path / "nowhere")
        os.mkfifo(tmp_path / "in/pipe.png")
    assert batch(tmp_path / "in", tmp_path / "out")[0] == 0
    assert len(results(tmp_path / "out")) == 3
    if sys.platform == "linux":  # a file that root cannot read either
        (tmp_path / "in/locked.png").symlink_to("/proc/self/mem")
        status, _, err = batch(tmp_path / "in", tmp_path / "out")
        first, _ = err.strip().splitlines()
        assert status == 1 and sentence(first).startswith("rmbg: locked.png: ") and len(results(tmp_path / "out")) == 3
    if os.name != "nt" and os.geteuid() != 0:
        (tmp_path / "in/b/c/0002.png").chmod(0)
        assert batch(tmp_path / "in", tmp_path / "other")[0] == 1


def test_unreadable_folder_is_reported(batch, tmp_path, monkeypatch):
    """Its photos are not lost without a message; the permissions of a folder do not apply to root."""
    save_photos(tmp_path / "in", 4)
    scandir = os.scandir

    def denied(folder: str) -> Any:
        if Path(folder).name == "c":
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(folder)

    with monkeypatch.context() as patch:
        patch.setattr("rmbg.batch.sources.os.scandir", denied)
        status, _, err = batch(tmp_path / "in", tmp_path / "out")
    failure, summary = err.replace(str(tmp_path), "TMP").strip().splitlines()
    assert status == 1 and sentence(failure) == "rmbg: b/c/: The folder b/c could not be read: Permission denied."
    assert "1 of 3 photos have no result" in sentence(summary) and results(tmp_path / "out") == ["a/0001.png", "a/0003.png"]
    assert batch(tmp_path / "in", tmp_path / "out")[0] == 0 and len(results(tmp_path / "out")) == 4


@pytest.mark.skipif(os.name == "nt", reason="requires POSIX file names")
def test_file_names_that_are_not_utf8(batch, tmp_path):
    (tmp_path / "in").mkdir()
    for name in (b"\xff\xfe.png", b"line\nbreak.png", "ümläut 図.png".encode(), b"--help.png"):
        (tmp_path / "in" / os.fsdecode(name)).write_bytes(png())
    assert batch(tmp_path / "in", tmp_path / "out")[0] == 0
    assert len(results(tmp_path / "out")) == 4
    assert batch(tmp_path / "in", tmp_path / "out", "--json")[0] == 0


def test_too_long_output_name_is_a_single_failure(batch, tmp_path):
    save_photo(tmp_path / "in" / ("x" * 251 + ".png"))
    save_photo(tmp_path / "in/good.png", 1)
    status, _, err = batch(tmp_path / "in", tmp_path / "out", "--format", "webp")
    assert status == 1 and (tmp_path / "out/good.webp").exists() and "1 of 2 photos" in err


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("*.png", ["a.png", ".png"], ["b/a.png", "a.jpg"]),
        ("**/*.png", ["a.png", "b/a.png", "b/c/a.png"], ["a.jpg"]),
        ("b/**", ["b/a", "b/c/a.png"], ["a", "b"]),
        ("b/**/c/*", ["b/c/a", "b/d/c/a", "b/c/c/c"], ["b/c", "b/c/c/d/a"]),
        ("[ab]?.p*", ["a1.png", "b2.p"], ["c1.png", "a.png"]),
        ("[!a]*", ["b"], ["a"]),
        ("a+(b).[x", ["a+(b).[x"], ["aab.x"]),
    ],
)
def test_globs(pattern, matches, others):
    parts = pattern.split("/")
    assert all(matches_glob(name.split("/"), parts) for name in matches)
    assert not any(matches_glob(name.split("/"), parts) for name in others)


def test_walk_stops_at_depth(tmp_path):
    save_photos(tmp_path, 4)
    save_photo(tmp_path / "top.png")
    assert [Path(path).name for path, _ in walk(tmp_path, depth=1)] == ["top.png"]


# --- names -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("../../etc/passwd.png", "etc/passwd"),
        ("/abs/photo.png", "abs/photo"),
        ("a//./b.tar.gz", "a/b.tar"),
        ("con<>|?*.png", "con_____"),
        ("..", "photo"),
        ("a/\u202e\x00b.png", "a/b"),
    ],
)
def test_safe_targets(name, target):
    assert safe_target(name.split("/")) == target


def test_unique_targets_avoid_taken_targets():
    wanted = [("a.jpg", "a"), ("A.png", "A"), ("b.png", "b"), ("a.jpeg", "a"), ("x", "e\u0301"), ("y", "\u00e9")]
    targets = unique_targets(wanted, ["b", "b.png"])
    assert targets == {"a.jpg": "a", "A.png": "A.png", "b.png": "b-2", "a.jpeg": "a.jpeg", "x": "e\u0301", "y": "\u00e9-1"}


# --- archives ----------------------------------------------------------------------------------------------------------


def test_path_traversal_in_an_archive(batch, tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("../out1.png", "/tmp/out2.png", "a/../../out3.png", "..\\out4.png", "C:\\out5.png", "good.png"):
            archive.writestr(name, png(len(name)))
        archive.writestr("__MACOSX/._good.png", b"junk")
    status, _, err = batch(tmp_path / "in.zip", tmp_path / "deep/out")
    assert status == 1 and err.count("has a path outside the archive") == 5 and "5 of 6 photos" in err
    assert results(tmp_path / "deep/out") == ["good.png"]
    assert sorted(p.name for p in tmp_path.rglob("*.png")) == ["good.png"]


def test_bombs_in_an_archive(batch, tmp_path, monkeypatch):
    """A member of 200 MB, one with a false size, and a picture with too many pixels."""
    monkeypatch.setenv("RMBG_MAX_BYTES", "1000000")
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", bytes(200_000_000))
        archive.writestr("liar.png", bytes(5_000_000))
        out = io.BytesIO()
        Image.new("1", (30_000, 30_000)).save(out, "PNG")
        archive.writestr("pixels.png", out.getvalue())
        archive.writestr("good.png", png())
    data = bytearray((tmp_path / "in.zip").read_bytes())
    for place in range(len(data)):
        if data[place : place + 4] == struct.pack("<I", 5_000_000):
            data[place : place + 4] = struct.pack("<I", 100)
    (tmp_path / "in.zip").write_bytes(data)
    status, _, err = batch(tmp_path / "in.zip", tmp_path / "out")
    assert status == 1 and results(tmp_path / "out") == ["good.png"] and "3 of 4 photos" in err
    assert "bomb.png has more than the limit of 1 MB" in err and "pixels.png has more pixels than the limit" in err


def test_encrypted_and_damaged_members(batch, tmp_path):
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("secret.png", "torn.png", "good.png"):
            archive.writestr(name, png(len(name)))
    data = bytearray((tmp_path / "in.zip").read_bytes())
    place = data.rindex(b"secret.png") - 46
    data[place + 8] |= 1
    place = data.index(b"torn.png") + 30
    data[place : place + 8] = b"\0" * 8
    (tmp_path / "in.zip").write_bytes(data)
    status, _, err = batch(tmp_path / "in.zip", tmp_path / "out")
    assert status == 1 and results(tmp_path / "out") == ["good.png"]
    assert "is encrypted" in err and "torn.png could not be read" in err


# --- lists of URLs -----------------------------------------------------------------------------------------------------


def test_urls_and_unreachable_hosts(batch, tmp_path, disc):
    pages = {f"/p{number}.png": lambda x, n=number: x.send(200, png(n), "image/png") for number in range(3)}
    pages["/same/p0.jpg"] = lambda x: x.send(200, png(7), "image/png")
    with Web(pages) as web:
        dead = Web()
        dead._server.server_close()
        host = f"127.0.0.1:{web.port}"
        lines = [f"{web.url}/p{number}.png" for number in range(3)] + [f"{web.url}/same/p0.jpg?size=2", f"{web.url}/gone.png"]
        lines += [f"{dead.url}/{number}.png" for number in range(40)]
        lines += ["http://10.0.0.1/private.png", "http://[bad/x.png", "ftp://host/x.png", "http://no-such-host.invalid/x.png"]
        (tmp_path / "list.txt").write_text("\n".join(lines))
        arguments = (tmp_path / "list.txt", tmp_path / "out", "--allow-host", host, "--allow-host", dead.url[7:])
        status, _, err = batch(*arguments)
        assert status == 1 and f"{len(lines) - 4} of {len(lines)} photos" in err
        summary = (tmp_path / "out/rmbg-summary.csv").read_text()
        assert summary.count("failed 3 times and was skipped") >= 40 - MAX_HOST_FAILURES - REMOTE_READERS
        folder = f"127.0.0.1_{web.port}"
        assert results(tmp_path / "out") == [
            f"{folder}/p0.png",
            f"{folder}/p1.png",
            f"{folder}/p2.png",
            f"{folder}/same/p0.png",
        ]
        before = len(web.seen)
        assert batch(*arguments)[0] == 1
        assert len(disc.calls) == 4 and len(web.seen) == before + 1  # only the URL that failed is fetched again
    assert all(sentence(line) for line in err.strip().splitlines())


def test_urls_in_private_networks_are_rejected(batch, tmp_path, disc):
    with Web({"/p.png": lambda x: x.send(200, png(), "image/png")}) as web:
        (tmp_path / "list.txt").write_text(f"{web.url}/p.png\n")
        assert batch(tmp_path / "list.txt", tmp_path / "out")[0] == 1
        assert web.seen == [] and disc.calls == []


# --- object stores -----------------------------------------------------------------------------------------------------


@pytest.fixture
def store():
    memory = fsspec.filesystem("memory")
    yield memory
    memory.rm("/", recursive=True)


def test_object_store_as_input_and_output(batch, store, disc):
    for number in range(3):
        store.pipe_file(f"/photos/{number % 2}/{number}.png", png(number))
    store.pipe_file("/photos/notes.txt", b"no picture")
    assert batch("memory://photos", "memory://results")[0] == 0
    assert sorted(store.find("/results")) == ["/results/0/0.png", "/results/0/2.png", "/results/1/1.png"]
    assert Image.open(io.BytesIO(store.cat_file("/results/1/1.png"))).mode == "RGBA"
    assert batch("memory://photos", "memory://results")[0] == 0 and len(disc.calls) == 3
    store.rm_file("/results/1/1.png")
    store.pipe_file("/photos/0/0.png", png(99))
    assert batch("memory://photos", "memory://results")[0] == 0
    assert sorted(disc.calls[3:]) == ["0", "1"]


def test_overlapping_object_stores_are_rejected(batch, store, disc):
    store.pipe_file("/photos/a/1.png", png())
    for source, target in (("photos", "photos/"), ("photos/a", "photos"), ("photos", "photos/results")):
        status, _, err = batch(f"memory://{source}", f"memory://{target}")
        assert status == 2 and "overlap" in sentence(err.strip())
    assert disc.calls == []


def test_object_store_with_wildcards_and_limits(batch, store, monkeypatch):
    monkeypatch.setenv("RMBG_MAX_BYTES", "100000")
    store.pipe_file("/photos/a/1.png", png(1))
    store.pipe_file("/photos/b/2.png", bytes(100_001))
    status, _, err = batch("memory://photos/*/*.png", "memory://other")
    assert status == 1 and "is larger than 0.1 MB" in err
    assert store.find("/other") == ["/other/a/1.png"]


@pytest.mark.parametrize("url", ["s3://bucket/photos", "gs://bucket/photos"])
def test_missing_package_of_a_store(batch, tmp_path, url):
    package = {"s3": "s3fs", "gs": "gcsfs"}[url[:2]]
    if package in {name for name in ("s3fs", "gcsfs") if __import__("importlib.util").util.find_spec(name)}:
        pytest.skip(f"{package} is installed")
    status, _, err = batch(url, tmp_path / "out")
    assert status == 1 and f"pip install {package}" in sentence(err.strip()) and not (tmp_path / "out").exists()


def test_password_of_a_url_is_redacted(batch, tmp_path):
    status, _, err = batch("s3://key:secret@bucket/photos", tmp_path / "out")
    assert status == 1 and "secret" not in err
