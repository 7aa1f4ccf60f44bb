"""Drafts: the displayed picture with other clean-up settings, for as long as the preview at screen size is being computed.

``drafts.js`` requests them by a route of their own, as Gradio's events take longer in the browser than the picture takes here.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from rmbg.errors import OptionError, RmbgError
from rmbg.matting.edges import EdgeSettings
from rmbg.matting.matte import bounding_box
from rmbg.ui.components.viewer import data_uri
from rmbg.ui.guard.checks import DRAFT, PREFIX
from rmbg.ui.results import Result
from rmbg.ui.session import TOKENS

#: Largest body of a request in bytes.
MAX_BODY = 4_000

INVALID = "The draft is invalid. Reload the page."


class Drafts:
    """ASGI middleware that answers the route of the drafts and passes all other requests on.

    The body of a request is a JSON object with the fields ``token`` of the page, ``result``, the id of a result, ``edges``, an
    object with all fields of `EdgeSettings`, ``view``, which is ``cutout`` or ``mask``, and ``strokes``, False to leave out
    those of the brush. The answer has the fields ``picture``, a data URI, and ``box``, the bounding box of the subject as left,
    top, right and bottom in pixels of the preview. Nothing is stored.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "POST" or scope["path"].partition(PREFIX)[2] != DRAFT:
            await self._app(scope, receive, send)
            return
        try:
            result, edges, view, strokes = parse(await _body(Request(scope, receive)))
            answer = await anyio.to_thread.run_sync(draw, result, edges, view, strokes)
            status = 200
        except RmbgError as error:
            answer, status = {"detail": str(error)}, 400
        await JSONResponse(answer, status, {"cache-control": "no-store"})(scope, receive, send)


def parse(body: bytes) -> tuple[Result, EdgeSettings, Literal["cutout", "mask"], bool]:
    """Return result, settings, view and strokes of a request.

    Raises
    ------
    OptionError
        If the body has another form, or the result is not one of the page.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise OptionError(INVALID) from None
    if not isinstance(request, dict) or set(request) != {"token", "result", "edges", "view", "strokes"}:
        raise OptionError(INVALID)
    token, edges, view = request["token"], request["edges"], request["view"]
    fields = EdgeSettings.__dataclass_fields__
    if not isinstance(token, str) or not isinstance(edges, dict) or set(edges) != set(fields) or view not in ("cutout", "mask"):
        raise OptionError(INVALID)
    session = TOKENS.find(token)
    result = next((found for found in session.results if found.id == request["result"]), None) if session else None
    if result is None:
        raise OptionError("This result was deleted. Remove the background of the photo again.")
    return result, EdgeSettings(**edges), view, bool(request["strokes"])


def draw(result: Result, edges: EdgeSettings, view: Literal["cutout", "mask"], strokes: bool) -> dict[str, Any]:
    """Return the answer to a request; raises PhotoError if the result was evicted."""
    cutout = result.draft(edges, strokes=strokes)
    rows, columns = bounding_box(cutout.matte)
    width, height = result.preview_size
    scale_x, scale_y = width / cutout.width, height / cutout.height
    box = columns.start * scale_x, rows.start * scale_y, columns.stop * scale_x, rows.stop * scale_y
    return {"picture": data_uri(cutout.render(view=view), "webp-lossy"), "box": [round(side) for side in box]}


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > MAX_BODY:
                raise OptionError(INVALID)
    except ClientDisconnect:
        raise OptionError(INVALID) from None
    return body
