"""Outputs on full disks, and outputs that cannot be written."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.disc import results, save_photo, save_photos
from tests.processes import python
from tests.sentences import sentence

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(os.name == "nt", reason="requires POSIX resource limits")


def run(*arguments: object, limit: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run a batch in a child process with a limit on the size of files."""
    words = ["-m", "tests.disc", os.devnull, "0", "batch", *map(str, arguments), "--provider", "disc"]
    options = {"cwd": ROOT, "capture_output": True, "text": True, "timeout": 300}
    if limit is None:
        return subprocess.run(python(*words), **options)

    def restrict() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run([sys.executable, *words], preexec_fn=restrict, **options)


@pytest.fixture
def small_disk(tmp_path):
    """Mount a file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mount is not permitted")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_full_disk_ends_the_batch(tmp_path, small_disk):
    photos = tmp_path / "in"
    for number in range(20):
        save_photo(photos / f"{number:02d}.png", number, (600, 600))
    done = run(photos, small_disk / "out", "--json")
    assert done.returncode == 1 and sentence(done.stderr.replace(str(tmp_path), "TMP").strip().splitlines()[-1])
    kept = results(small_disk / "out")
    assert 0 < len(kept) < 20 and not list(small_disk.rglob("*.part"))
    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    done = run(photos, small_disk / "out", "--json")
    assert done.returncode == 0 and len(results(small_disk / "out")) == 20
    assert json.loads(done.stdout)["kept"] >= len(kept) - 1


def test_file_size_limit_ends_the_batch(tmp_path):
    photos = tmp_path / "in"
    for number in range(6):
        save_photo(photos / f"{number:02d}.png", number, (900, 900))
    done = run(photos, tmp_path / "out", limit=60_000)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert sentence(done.stderr.replace(str(tmp_path), "TMP").strip().splitlines()[-1])
    done = run(photos, tmp_path / "out")
    assert done.returncode == 0 and len(results(tmp_path / "out")) == 6


def test_invalid_outputs(batch, tmp_path, disc):
    photos = save_photos(tmp_path / "in", 2)
    (tmp_path / "file").touch()
    targets = [tmp_path / "file", "/dev/full", tmp_path / "file/below", tmp_path / "file/out.zip", "/proc/out"]
    if os.geteuid() != 0:
        (tmp_path / "locked").mkdir(mode=0o500)
        targets.append(tmp_path / "locked/out")
    for target in targets:
        status, out, err = batch(photos, target)
        assert (status, out) == (1, "") and sentence(err.strip()), target
    (tmp_path / "old.zip").write_bytes(b"not an archive")
    status, _, err = batch(photos, tmp_path / "old.zip")
    assert status == 1 and "Move it away" in sentence(err.strip()) and (tmp_path / "old.zip").read_bytes() == b"not an archive"
    assert disc.calls == []
    with contextlib.suppress(OSError):
        (tmp_path / "locked").chmod(0o700)


def test_folder_with_the_name_of_a_result(batch, tmp_path):
    photos = save_photos(tmp_path / "in", 4)
    (tmp_path / "out/a/0001.png").mkdir(parents=True)
    status, _, err = batch(photos, tmp_path / "out")
    assert status == 1 and "0001.png is a folder" in err and "1 of 4 photos" in err
