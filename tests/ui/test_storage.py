"""Disk quotas and expiry of files."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rmbg.ui.storage import UNUSED_SECONDS, VISITOR, Storage, Workspace


@pytest.fixture
def root(tmp_path):
    root = Workspace(tmp_path)
    yield root
    root.remove()


def stored(storage: Storage, owner: str, size: int, **kwargs: float) -> Path:
    VISITOR.set(owner)
    try:
        return Path(storage.store(bytes(size), "file.bin", **kwargs))
    finally:
        VISITOR.set("")


def test_quota_of_a_visitor_evicts_its_oldest_file(root):
    storage = Storage(root, session_bytes=100, server_bytes=1000, keep_seconds=1, visit_seconds=3600)
    other = stored(storage, "other", 90)
    paths = [stored(storage, "one", 40) for _ in range(3)]
    assert [path.exists() for path in paths] == [False, True, True] and other.exists()
    assert storage.bytes_of("one") == 80 and storage.bytes_of() == 170


def test_quota_of_the_server_evicts_the_oldest_file(root):
    storage = Storage(root, session_bytes=100, server_bytes=150, keep_seconds=1, visit_seconds=3600)
    paths = [stored(storage, owner, 60) for owner in "abc"]
    assert [path.exists() for path in paths] == [False, True, True]


def test_file_above_the_quota_is_kept_alone(root):
    """It may have been paid for."""
    storage = Storage(root, session_bytes=100, server_bytes=150, keep_seconds=1, visit_seconds=3600)
    small, large = stored(storage, "a", 10), stored(storage, "a", 500)
    assert large.exists() and not small.exists()


def test_files_expire(root):
    storage = Storage(root, session_bytes=1000, server_bytes=1000, keep_seconds=0, visit_seconds=3600)
    page, call = stored(storage, "open", 1), stored(storage, "open", 1, seconds=0)
    queued = stored(storage, "", 1, seconds=0)
    time.sleep(0.01)
    storage.sweep(lambda owner: owner == "open", {str(queued)})
    assert page.exists() and not call.exists() and queued.exists()
    storage.release(page)
    time.sleep(0.01)
    assert storage.sweep(lambda owner: True, ()) == {str(page), str(queued)}
    assert not page.exists() and not page.parent.exists()


def test_files_of_a_closed_page_expire_with_the_visit(root):
    storage = Storage(root, session_bytes=1000, server_bytes=1000, keep_seconds=100, visit_seconds=0)
    path, upload = stored(storage, "closed", 1), storage.new_file("upload.png")
    upload.write_bytes(b"1")
    storage.sweep(lambda owner: False, ())
    storage.sweep(lambda owner: False, ())  # the first one registers the upload
    assert not path.exists() and not upload.exists()


def test_files_of_a_deleted_visit_are_removed_as_soon_as_they_are_stored(root):
    storage = Storage(root, session_bytes=1000, server_bytes=1000, keep_seconds=100, visit_seconds=100)
    first, other = stored(storage, "deleted", 1), stored(storage, "other", 1)
    storage.delete_visit("deleted")
    assert not first.exists() and not stored(storage, "deleted", 1).exists() and storage.bytes_of("deleted") == 0
    assert other.exists() and stored(storage, "other", 1).exists()


def test_repeated_upload_resets_the_expiry(root):
    storage = Storage(root, session_bytes=1000, server_bytes=1000, keep_seconds=0, visit_seconds=3600)
    path = stored(storage, "first", 1)
    storage.release(path)
    time.sleep(0.05)
    new = path.with_name("new")
    new.write_bytes(b"again")
    new.replace(path)
    storage.sweep(lambda owner: False, ())
    assert path.read_bytes() == b"again"
    assert UNUSED_SECONDS > 60


def test_partial_uploads_are_removed_without_their_folder(root, monkeypatch):
    """Gradio creates the folder before it reads an upload, and the partial file afterwards."""
    monkeypatch.setattr("rmbg.ui.storage.PARTIAL_SECONDS", -1)
    partial = root.uploads / "tmp0123abcd"
    partial.write_bytes(b"partial")
    Storage(root, session_bytes=1000, server_bytes=1000, keep_seconds=0, visit_seconds=3600).sweep(lambda owner: True, ())
    assert not partial.exists() and root.uploads.is_dir()


def test_file_names_cannot_leave_the_folder(root):
    storage = Storage(root, session_bytes=1000, server_bytes=1000, keep_seconds=0, visit_seconds=3600)
    for name in ("../../x.png", "/etc/x.png", "a/b/x.png"):
        path = storage.new_file(name)
        assert path.parent.parent == root.uploads and path.name == "x.png"
