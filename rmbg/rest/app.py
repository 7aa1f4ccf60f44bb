"""The routes of the API: reading of requests, downloads, the call of the provider, and responses."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rmbg.errors import NotReadyError, RmbgError
from rmbg.images.photo import Photo
from rmbg.net.download import fetch
from rmbg.providers.base import DeviceTurn, ProviderInfo
from rmbg.remove import keep_if_paid, remove_background
from rmbg.render import backgrounds
from rmbg.rest.openapi import document
from rmbg.rest.removebg import Answer, Failure, Removal, failure_of, parse
from rmbg.rest.result import answer, cropped, read_photo, region, resized, restored
from rmbg.runtime.cancellation import CancellationToken
from rmbg.runtime.messages import public_text
from rmbg.settings import Settings

log = logging.getLogger(__name__)

_PATH = re.compile(r".*/(v1\.0/(?:removebg|account|improve|openapi\.json))")

#: Concurrent downloads; a slow server may block one until its deadline.
DOWNLOADS_AT_ONCE = 8

#: Limits of a body in parts; that of all bytes is the server's.
MAX_FILES, MAX_FIELDS, MAX_FIELD_BYTES = 4, 200, 200_000_000

NO_KEYS = "This server is shared, and its API is for clients with a key, of which it has none."

#: Response of /account to a client without a key, whose calls cost no credits.
ACCOUNT = {
    "data": {
        "attributes": {
            "credits": {"total": 0, "subscription": 0, "payg": 0, "enterprise": 0},
            "api": {"free_calls": 0, "sizes": "all"},
        }
    }
}


def route_of(path: str) -> str:
    """Return the route of the API in the path of a request, such as ``v1.0/removebg``; empty for other paths."""
    match = _PATH.fullmatch(path)
    return match[1] if match else ""


def authorize(headers: Mapping[str, str], settings: Settings) -> None:
    """Raise Failure unless a client may use the API: there are no keys of clients, so that a shared server refuses all."""
    if settings.shared:
        raise Failure("auth_failed", NO_KEYS)


@dataclass(frozen=True)
class Machine:
    """What the calls of a server share.

    Attributes
    ----------
    run : async callable (info, token, work) -> Answer
        Calls `work` in a thread once there is a slot for a call of the provider. Raises NotReadyError at once if too many calls
        wait. If its task is cancelled, it leaves the queue or cancels `token`.
    device : callable (check) -> context manager
        Held while a local network runs.
    memory : callable (photo, check) -> context manager
        Held while a photo is processed.
    """

    run: Callable[[ProviderInfo, CancellationToken, Callable[[], Answer]], Awaitable[Answer]]
    device: DeviceTurn
    memory: Callable[[Photo, Callable[[], None]], AbstractContextManager[None]]


class Api:
    """ASGI middleware that answers the routes of the API and passes all other requests on."""

    def __init__(self, app: ASGIApp, machine: Machine) -> None:
        self._app, self._machine = app, machine
        self._downloads = anyio.CapacityLimiter(DOWNLOADS_AT_ONCE)
        self._routes: dict[str, tuple[str, Callable[[Request, Settings], Awaitable[Answer]]]] = {
            "v1.0/removebg": ("POST", self._removebg),
            "v1.0/improve": ("POST", _improve),
            "v1.0/account": ("GET", _account),
            "v1.0/openapi.json": ("GET", _openapi),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = route_of(scope["path"]) if scope["type"] == "http" else ""
        if not route:
            await self._app(scope, receive, send)
            return
        method, handle = self._routes[route]
        request = Request(scope, receive)
        try:
            if request.method != method:
                raise Failure("method_not_allowed", f"Use {method}.")
            made = await handle(request, Settings.from_environ())
        except Failure as failure:
            made = failure.answer()
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("A request of the API failed")
            made = Failure("internal_error").answer()
        headers = {**made.headers, "Cache-Control": "no-store"}
        await Response(made.body, made.status, headers, made.media_type)(scope, receive, send)

    async def _removebg(self, request: Request, settings: Settings) -> Answer:
        authorize(request.headers, settings)
        removal = await anyio.to_thread.run_sync(parse, await fields_of(request), settings)
        token = CancellationToken()
        as_json = "application/json" in request.headers.get("accept", "")
        return await _while_connected(request.receive, token, self._remove(removal, settings, token, as_json))

    async def _remove(self, removal: Removal, settings: Settings, token: CancellationToken, as_json: bool) -> Answer:
        data = await self._content(removal.source, "failed_image_download", settings, token)
        backdrop = None
        if removal.backdrop is not None:
            backdrop = await self._content(removal.backdrop, "failed_bg_download", settings, token)
        work = partial(_answer, data, backdrop, removal, settings, token, self._machine, as_json)
        try:
            return await self._machine.run(removal.provider.info, token, work)
        except NotReadyError as error:
            raise Failure("rate_limit_exceeded", str(error)) from None

    async def _content(self, source: bytes | str, code: str, settings: Settings, token: CancellationToken) -> bytes:
        """Return the content of a picture, which is downloaded if `source` is a URL."""
        if isinstance(source, bytes):
            return source
        limits: dict[str, Any] = {"max_bytes": settings.max_bytes, "loopback_hosts": settings.photo_hosts}
        load = partial(fetch, source, plain_http=True, cancelled=token.cancelled, **limits)
        try:
            return await anyio.to_thread.run_sync(load, limiter=self._downloads)
        except RmbgError as error:
            raise Failure(code, public_text(str(error), shared=settings.shared)) from None


def _answer(
    data: bytes,
    backdrop: bytes | None,
    removal: Removal,
    settings: Settings,
    token: CancellationToken,
    machine: Machine,
    as_json: bool,
) -> Answer:
    """Return the response to a request whose pictures are loaded; called in a thread. Errors are responses as well."""
    try:
        photo = read_photo(data, settings)
        picture = None if backdrop is None else backgrounds.picture(read_photo(backdrop, settings))
        with machine.memory(photo, token.check):
            sized = resized(photo, removal.values["size"])
            rows, columns = region(removal.values["roi"], photo, sized)
            cutout = remove_background(
                cropped(sized, rows, columns),
                removal.provider.info.id,
                edges=removal.edges,
                alpha_matting=removal.alpha_matting,
                cancelled=token.cancelled,
                settings=settings,
                device=machine.device,
            )
            with keep_if_paid([cutout], settings):
                made = answer(restored(cutout, sized, rows, columns), removal, picture, as_json=as_json)
                token.check()  # what a client that has disconnected has paid for is kept
                return made
    except Failure as failure:
        return failure.answer()
    except RmbgError as error:
        return failure_of(error, settings).answer()


async def fields_of(request: Request) -> dict[str, Any]:
    """Return the fields of a JSON, urlencoded or multipart body, files as bytes; an empty dict for other bodies.

    Raises
    ------
    Failure
        If the body is malformed.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        try:
            fields = json.loads(await request.body())
        except (ValueError, RecursionError):
            fields = None
        if not isinstance(fields, dict):
            raise Failure("invalid_request", "The body is not a JSON object.")
        return fields
    limits = {"max_files": MAX_FILES, "max_fields": MAX_FIELDS, "max_part_size": MAX_FIELD_BYTES}
    try:
        async with request.form(**limits) as form:
            return {name: await value.read() if isinstance(value, UploadFile) else value for name, value in form.items()}
    except (HTTPException, MultiPartException):
        raise Failure("invalid_request", "The form is malformed.") from None


async def _while_connected(receive: Receive, token: CancellationToken, call: Coroutine[Any, Any, Answer]) -> Answer:
    """Return the result of `call`; cancels it and raises ClientDisconnect if the client disconnects."""

    async def disconnected() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    result, end = asyncio.ensure_future(call), asyncio.ensure_future(disconnected())
    try:
        await asyncio.wait((result, end), return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        token.cancel(wait=False)
        raise ClientDisconnect
    finally:
        result.cancel()
        end.cancel()


async def _improve(request: Request, settings: Settings) -> Answer:
    """Discard the picture: there is no program that collects any."""
    authorize(request.headers, settings)
    async for _ in request.stream():
        pass
    return _json({"id": "", "detail": "Thank you. This server collects no pictures; nothing was stored."})


async def _account(request: Request, settings: Settings) -> Answer:
    authorize(request.headers, settings)
    return _json(ACCOUNT)


async def _openapi(request: Request, settings: Settings) -> Answer:
    return _json(document())


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode())
