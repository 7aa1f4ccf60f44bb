"""Limits for the disk space of a visitor and of all visitors, and expiration of files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from gradio_client import Client, handle_file

from tests.processes import with_constants
from tests.security.server import Server, Visitor, picture
from tests.servers.web import until

MB = 1_000_000

#: Size of a photo whose results have about 4 MB at full size.
SIZE = (600, 800)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    limits = {"RMBG_SESSION_MB": "15", "RMBG_STORAGE_MB": "25", "RMBG_KEEP_MINUTES": "0.1"}
    entry = (*with_constants(ui__server__SWEEP_SECONDS=1, ui__storage__PARTIAL_SECONDS=6), "serve")
    with Server(tmp_path_factory.mktemp("server"), entry=entry, **limits) as server:
        yield server


def used(server: Server) -> int:
    return sum(size(server.temporary / name) for name in server.files())


def size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def outputs(visitor: Visitor, message: dict) -> dict[str, str]:
    """Return the outputs of a run by element id."""
    event = visitor.event({"photo", "provider"}, {"strip"})
    ids = [visitor.parts[part].get("elem_id") for part in event["outputs"]]
    return dict(zip(ids, message["output"]["data"], strict=True))


def test_oldest_results_of_a_visitor_are_removed_at_its_limit(server):
    with Visitor(server.url, "greedy") as visitor:
        for number in range(5):
            message = visitor.remove(server.upload(picture(*SIZE), f"{number}.png"), f"{number}.png")
            assert message["success"], message
            assert used(server) < 25 * MB, number
        page = outputs(visitor, message)
        assert "removed" in page["total"] and "15 MB" in page["total"], page["total"]
        assert len(page["strip"]["value"]) < 5
        download = visitor.download()
        assert download["success"], "the newest result is complete"
    assert used(server) < 19 * MB


def test_results_are_evicted_at_the_limit_of_the_server(server):
    visitors = [Visitor(server.url, f"one-of-many-{number}") for number in range(3)]
    try:
        for visitor in visitors:
            visitor.__enter__()
            for number in range(3):
                assert visitor.remove(server.upload(picture(*SIZE), f"{visitor.name}-{number}.png"))["success"]
            assert used(server) < 35 * MB
        first = visitors[0]
        message = first.download()
        assert not message["success"]
        assert "make room" in message["output"]["error"], message["output"]
    finally:
        for visitor in visitors:
            visitor.__exit__()


def test_files_of_an_api_call_expire_but_not_those_of_an_open_page(server, tmp_path):
    earlier = set(server.files())  # of pages that were closed
    with Visitor(server.url, "patient") as visitor:
        path = server.upload(picture(300, 400), "patient.png")
        assert visitor.remove(path, "patient.png")["success"]
        older = set(server.files()) - earlier
        assert older
        call_api_and_wait(server, tmp_path)  # for the lifetime of its files, and a sweep
        assert older <= set(server.files()) and Path(path).exists()
        assert visitor.remove(path, "patient.png")["success"]


def call_api_and_wait(server: Server, tmp_path: Path) -> None:
    """Call the API, and wait until the files of the call have been removed."""
    photo = tmp_path / "api.png"
    photo.write_bytes(picture(400, 500))
    client = Client(server.url, verbose=False, download_files=str(tmp_path / "downloads"))
    try:
        before = set(server.files())
        result = client.predict(image=handle_file(str(photo)), api_name="/remove_background")
        assert Path(result).stat().st_size > 1000
        assert any("api" in name for name in server.files())
        assert until(lambda: not any("api" in name for name in set(server.files()) - before), 90), server.files()
    finally:
        client.close()


def test_incomplete_uploads_leave_no_files(server):
    import socket

    head = (
        f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 5000000\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="files"; filename="broken.png"\r\n\r\n'
    ).encode()
    before = set(server.files())
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head + b"x" * 1_000_000)
        assert until(lambda: len(set(server.files()) - before) > 0, 30)
    assert until(lambda: not set(server.files()) - before, 150), set(server.files()) - before


@pytest.mark.parametrize("name, value", [("RMBG_SESSION_MB", "0"), ("RMBG_STORAGE_MB", "x"), ("RMBG_KEEP_MINUTES", "-1")])
def test_invalid_limits_are_reported(tmp_path, name, value):
    with pytest.raises(AssertionError, match=name), Server(tmp_path, **{name: value}):
        pass
