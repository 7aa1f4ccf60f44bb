"""The page is built once for each address and language, and sent to all visitors."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.types import Message, Receive, Scope, Send

from rmbg.ui.languages import LANGUAGE
from rmbg.ui.pages import MAX_KEPT, Pages


class Built:
    """App that counts its responses."""

    def __init__(self, status: int = 200) -> None:
        self.count, self.status = 0, status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.count += 1
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"content-type", b"text/html")]})
        await send({"type": "http.response.body", "body": f"{scope['path']} {LANGUAGE.get()}".encode() * 100})


def get(pages: Pages, path: str = "/", host: str = "a.example", language: str = "en", query: bytes = b"") -> list[Message]:
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        messages.append(message)
        for name, value in ((b"x-guard", b"added"),):  # as the guard does, in place
            if "headers" in message:
                message["headers"].append((name, value))

    async def request() -> None:
        LANGUAGE.set(language)
        headers = [(b"host", host.encode()), (b"accept-encoding", b"gzip")]
        scope = {"type": "http", "method": "GET", "path": path, "scheme": "http", "query_string": query, "headers": headers}
        await pages(scope, receive, send)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, request()).result()
    return messages


def test_page_is_built_once_for_each_address_and_language():
    built = Built()
    pages = Pages(built, keep=True)
    first = get(pages)
    assert get(pages) == first == get(pages) and built.count == 1
    assert first[0]["headers"].count((b"x-guard", b"added")) == 1, "what is kept is not changed"
    for different in ({"host": "b.example"}, {"language": "de"}, {"path": "/config"}):
        before = built.count
        assert get(pages, **different)[1] != first[1] or "host" in different
        get(pages, **different)
        assert built.count == before + 1, different


@pytest.mark.parametrize("given", [{"query": b"view=x"}, {"path": "/other"}])
def test_other_requests_are_not_kept(given):
    built = Built()
    pages = Pages(built, keep=True)
    get(pages, **given)
    get(pages, **given)
    assert built.count == 2


def test_errors_and_pages_with_the_name_of_a_visitor_are_not_kept():
    for built, keep in ((Built(500), True), (Built(), False)):
        pages = Pages(built, keep=keep)
        get(pages)
        get(pages)
        assert built.count == 2


def test_number_of_kept_pages_is_limited():
    pages = Pages(Built(), keep=True)
    for number in range(MAX_KEPT + 5):
        get(pages, host=f"{number}.example")
    assert len(pages._kept) == MAX_KEPT
