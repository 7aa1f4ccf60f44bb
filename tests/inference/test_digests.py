"""rmbg.inference.weights: unchanged files are not read again, changed files are noticed."""

import hashlib
import json
import os

import pytest

from rmbg.inference import weights
from tests.inference.overwriting import overwrite

OLD = 1_600_000_000


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A file whose times have settled."""
    monkeypatch.setattr(weights, "SETTLED_NS", -(10**12))
    path = tmp_path / "weights"
    path.write_bytes(b"a" * 100)
    os.utime(path, (OLD, OLD))
    return path


@pytest.fixture
def reads(monkeypatch):
    """Names of the files that are read."""
    names = []

    def counted(path, mode):
        names.append(path.name)
        return open(path, mode)

    monkeypatch.setattr(weights, "open", counted, raising=False)
    return names


@pytest.fixture(params=["same process", "new process"])
def call(request, path, tmp_path, reads, monkeypatch):
    """Checksum of the file, with the memory of an earlier call or with the store on disk only."""

    def checksum():
        if request.param == "new process":
            monkeypatch.setattr(weights, "_memory", {})
        return weights.sha256(path, tmp_path / "data")

    return checksum


def expected(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_unchanged_file_is_read_once(call, path, reads):
    assert call() == call() == call() == expected(path)
    assert reads == ["weights"]


def test_other_content_of_the_same_size_and_modification_time(call, path, reads):
    first = call()
    overwrite(path, b"b" * 100)
    assert call() == expected(path) != first
    assert reads == ["weights", "weights"]


def test_a_replaced_file_of_the_same_size_and_modification_time(call, path, tmp_path):
    first = call()
    other = tmp_path / "other"
    other.write_bytes(b"b" * 100)
    os.utime(other, (OLD, OLD))
    other.replace(path)
    assert call() == expected(path) != first


def test_a_truncated_file(call, path):
    first = call()
    os.truncate(path, 99)
    os.utime(path, (OLD, OLD))
    assert call() == expected(path) != first


def test_a_file_that_was_written_a_moment_ago_is_read_again(call, path, reads, monkeypatch):
    """A second change within one tick of the file system's clock would leave all times as they are."""
    monkeypatch.setattr(weights, "SETTLED_NS", 60 * 10**9)
    assert call() == call()
    assert reads == ["weights", "weights"]


@pytest.mark.parametrize("store", [b"", b"[]", b'{"weights"', b'{"x": [[1], "a"]}', b'{"x": 1}'])
def test_a_damaged_store_is_replaced(path, tmp_path, reads, store, monkeypatch):
    monkeypatch.setattr(weights, "_memory", {})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / weights.STORE).write_bytes(store)
    assert weights.sha256(path, tmp_path / "data") == expected(path)
    assert str(path) in json.loads((tmp_path / "data" / weights.STORE).read_text())


def test_a_store_that_cannot_be_written_is_ignored(path, tmp_path):
    (tmp_path / "data").write_text("a file where a folder should be")
    assert weights.sha256(path, tmp_path / "data") == expected(path)


def test_the_trailer_is_left_out(path, tmp_path):
    assert weights.sha256(path, tmp_path / "data", 10) == hashlib.sha256(b"a" * 90).hexdigest()


def test_old_entries_are_dropped(path, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "MAX_ENTRIES", 2)
    for name in ("first", "second", "third"):
        (tmp_path / name).write_bytes(b"x")
        weights.remember(tmp_path / name, "0", tmp_path / "data")
    names = [os.path.basename(name) for name in json.loads((tmp_path / "data" / weights.STORE).read_text())]  # noqa: PTH119
    assert names == ["second", "third"]
