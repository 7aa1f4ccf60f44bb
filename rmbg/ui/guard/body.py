"""Request bodies with a size limit."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.datastructures import Headers
from starlette.types import Receive

from rmbg.ui.guard.response import GuardedResponse
from rmbg.ui.languages import t
from rmbg.ui.request_checks import Refused
from rmbg.units import megabytes

#: Bytes around a file in a multipart body, and around a picture in a JSON body.
OVERHEAD = 1_000_000


def upload_limit(max_bytes: int) -> int:
    """Return the limit of Gradio for an upload whose decoded file may have `max_bytes`.

    Gradio reports limits in units of 1024 * 1024 bytes and calls them MB, as other messages call a million bytes.
    """
    return max_bytes * 1_048_576 // 1_000_000


def body_limits(route: str, max_bytes: int, max_upload: int) -> tuple[int, int]:
    """Return the size limits of a request body and of the files in it, in bytes.

    Parameters
    ----------
    route : str
        Path after the prefix of the API.
    max_bytes : int
        Size limit of a photo. Base64 makes a picture in a JSON body larger by a third.
    max_upload : int
        Size limit of an upload.
    """
    if route.rstrip("/") == "upload":
        return upload_limit(max_upload) + OVERHEAD, max_upload
    return upload_limit(max_bytes) * 4 // 3 + OVERHEAD, max_bytes


class LimitedBody:
    """`receive` that disconnects if the body is larger than `limit` bytes, or once `ending` is set.

    Messages name `max_bytes`, the limit of a file.
    """

    def __init__(
        self,
        receive: Receive,
        limit: int,
        max_bytes: int,
        headers: Headers,
        response: GuardedResponse,
        ending: asyncio.Event | None,
    ) -> None:
        self._receive, self._limit, self._max_bytes = receive, limit, max_bytes
        self._response, self._ending, self._read = response, ending, 0
        length = headers.get("content-length", "0")
        if not length.isdigit() or len(length) > 15 or int(length) > limit:
            raise Refused(413, self._too_large)

    @property
    def _too_large(self) -> str:
        limit = megabytes(self._max_bytes)
        return t("The upload is larger than the limit of {limit}. Send fewer or smaller photos.", limit=limit)

    async def __call__(self) -> Any:
        message = await (self._receive() if self._ending is None else self._receive_until(self._ending))
        self._read += len(message.get("body", b""))
        if self._read > self._limit:
            await self._response.refuse(413, self._too_large, self._receive)
            return {"type": "http.disconnect"}
        return message

    async def _receive_until(self, ending: asyncio.Event) -> Any:
        tasks = [asyncio.ensure_future(self._receive()), asyncio.ensure_future(ending.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return tasks[0].result() if tasks[0].done() else {"type": "http.disconnect"}
        finally:
            for task in tasks:
                task.cancel()
