"""File references in requests: only uploaded files are accepted."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.pictures import scene
from tests.security.gradio_requests import FILE, App

#: Events with a photo, and their remaining values.
PLACES = {
    "remove_background": ["builtin", "transparent", False, "png"],
    "compare": ["builtin", "", "transparent", False],
    "photo.upload": [],
}


@pytest.fixture(scope="module")
def visitor(app: str) -> App:
    return App(app)


def png(side: int = 120) -> bytes:
    out = io.BytesIO()
    Image.fromarray(scene(side, side)[0]).save(out, "PNG")
    return out.getvalue()


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Picture on the server's disk that was not uploaded."""
    path = tmp_path / "secret.png"
    path.write_bytes(png())
    return path


def references(path: Any) -> list[dict[str, Any]]:
    """Return all forms of a reference to a path."""
    return [
        {"path": path},
        {"path": path, "meta": FILE},
        {"path": path, "orig_name": "a.png", "url": None},
        {"path": path, "url": f"/gradio_api/file={path}", "meta": FILE, "is_stream": True},
    ]


def failure(visitor: App, place: str, reference: Any) -> str:
    """Return the error message of a rejected reference; the check of uploads returns it as a notice."""
    outcome = visitor.queue(place, [reference, *PLACES[place]])
    if not outcome.success:
        return outcome.message
    assert place == "photo.upload" and outcome.data[0] is None, f"{place} accepted {reference}"
    return outcome.data[1]


@pytest.mark.parametrize("place", PLACES)
def test_uploads_are_accepted(visitor, place):
    path = visitor.upload(png())
    assert visitor.queue(place, [{"path": path, "meta": FILE}, *PLACES[place]]).success


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shape", range(4))
def test_other_files_are_rejected_like_missing_ones(visitor, secret, place, shape):
    missing = secret.with_name("missing.png")
    there, absent = (failure(visitor, place, references(str(p))[shape]) for p in (secret, missing))
    assert there == absent and "Upload" in there
    assert "secret" not in there and str(secret.parent) not in there


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/etc", "/dev/zero", "/proc/self/environ", "", ".", "README.md", "examples", "\0", "a" * 5000]
)
def test_all_paths_get_the_same_message(visitor, secret, place, path):
    expected = failure(visitor, place, {"path": str(secret.with_name("missing.png"))})
    assert failure(visitor, place, {"path": path}) == expected
    assert failure(visitor, place, {"path": path, "meta": FILE}) == expected


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
@pytest.mark.parametrize("place", PLACES)
def test_named_pipe_is_not_opened(app, tmp_path, place):
    """Opening a named pipe for reading blocks until it has a writer."""
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    impatient = App(app, timeout=60)
    try:
        for reference in references(str(pipe)):
            assert "Upload" in failure(impatient, place, reference)
    finally:
        writer = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)  # releases a reader that has opened it
        os.close(writer)


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="needs symbolic links")
@pytest.mark.parametrize("place", PLACES)
def test_links_in_the_upload_folder_are_not_followed(visitor, secret, place):
    uploaded = Path(visitor.upload(png(121)))
    file_link = uploaded.with_name("link.png")
    folder_link = uploaded.parent.with_name("0" * 64)
    file_link.symlink_to(secret)
    folder_link.symlink_to(secret.parent)
    try:
        for path in (file_link, folder_link / secret.name):
            assert "Upload" in failure(visitor, place, {"path": str(path), "meta": FILE})
            assert "Upload" in failure(visitor, place, {"path": str(path)})
    finally:
        file_link.unlink()
        folder_link.unlink()


@pytest.mark.parametrize("place", PLACES)
def test_paths_do_not_lead_out_of_the_upload_folder(visitor, secret, place):
    uploaded = Path(visitor.upload(png()))
    ups = os.path.relpath(secret, uploaded.parent)
    for path in (f"{uploaded.parent}/{ups}", f"{uploaded}/../{ups}", str(uploaded.parent), str(uploaded.parent.parent)):
        assert "Upload" in failure(visitor, place, {"path": path, "meta": FILE})
        assert "Upload" in failure(visitor, place, {"path": path})


def test_direct_calls_are_checked_like_queued_ones(visitor, secret):
    for reference in references(str(secret)):
        values = [reference, *PLACES["remove_background"]]
        assert "event: complete" not in visitor.call("remove_background", values)
        answer = visitor.run("remove_background", values)
        assert answer.status_code != 200 and str(secret.parent) not in answer.text


def test_background_picture_must_be_an_upload(visitor, secret):
    """The background of the page's results is a separate component."""
    event = visitor.event("save.click")
    ids = {part["id"]: part["props"].get("elem_id") for part in visitor.config["components"]}
    inputs = next(e for e in visitor.config["dependencies"] if e["id"] == event)["inputs"]
    values = {"format": "png", "quality": 90, "view": "cutout", "background": "image", "crop": False, "margin": 5}
    # The first input is the session, a state whose value in a request is ignored.
    data = [values.get(ids.get(part) or "", "#ffffff") for part in inputs]
    at = [ids.get(part) for part in inputs].index("background-picture")
    messages = []
    for path in (secret, secret.with_name("missing.png")):
        for reference in references(str(path)):
            data[at] = reference
            outcome = visitor.queue(event, data)
            assert not outcome.success
            messages.append(outcome.message)
    assert len(set(messages)) == 1 and "Upload" in messages[0]


def test_zip_of_a_data_set_must_be_an_upload(visitor, tmp_path):
    path = tmp_path / "private.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/im/1.png", png())
        archive.writestr("a/gt/1.png", png())
    event = next(
        e["id"]
        for e in visitor.config["dependencies"]
        if any(visitor_elem(visitor, part) == "dataset-zip" for part in e["inputs"])
    )
    inputs = next(e for e in visitor.config["dependencies"] if e["id"] == event)["inputs"]
    elems = [visitor_elem(visitor, part) for part in inputs]
    data: list[Any] = [None] * len(inputs)
    data[elems.index("dataset")] = "zip"
    messages = set()
    for given in (path, path.with_name("missing.zip")):
        for reference in references(str(given)):
            data[elems.index("dataset-zip")] = reference
            outcome = visitor.queue(event, data)
            assert not outcome.success, json.dumps(outcome.data)[:300]
            messages.add(outcome.message)
    assert len(messages) == 1 and "Upload" in messages.pop()


def visitor_elem(visitor: App, part: int) -> str | None:
    return next(c["props"].get("elem_id") for c in visitor.config["components"] if c["id"] == part)


@pytest.mark.parametrize("position", range(1, 5))
def test_text_fields_reject_files(visitor, secret, position):
    """Gradio resolves file references in the values of all components."""
    values: list[Any] = [{"path": visitor.upload(png()), "meta": FILE}, *PLACES["remove_background"]]
    values[position] = {"path": str(secret), "meta": FILE}
    outcome = visitor.queue("remove_background", values)
    assert not outcome.success and str(secret.parent) not in outcome.message


def test_event_data_rejects_files(visitor, secret):
    outcomes = {
        visitor.queue("strip.select", [None] * visitor.inputs(visitor.event("strip.select")), event_data=data).message
        for path in (secret, secret.with_name("missing.png"))
        for data in ({"index": 0, "value": {"path": str(path), "meta": FILE}}, {"path": str(path)})
    }
    assert not any(str(secret.parent) in message for message in outcomes)
