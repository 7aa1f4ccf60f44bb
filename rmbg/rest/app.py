"""The routes of the API: reading of requests, downloads, the call of the provider, and responses."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from decimal import Decimal
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

from rmbg.billing.client_keys import MAX_CREDITS, ClientKey
from rmbg.billing.cost import Cost
from rmbg.errors import NotReadyError, RmbgError
from rmbg.images.photo import Photo
from rmbg.net.download import fetch
from rmbg.providers.base import DeviceTurn
from rmbg.remove import keep_if_paid, remove_background
from rmbg.render import backgrounds
from rmbg.rest.clients import authorize, charged, settings_for, take
from rmbg.rest.openapi import document
from rmbg.rest.removebg import Answer, Failure, Removal, failure_of, parse
from rmbg.rest.result import answer, cropped, read_photo, region, resized, restored
from rmbg.runtime.cancellation import CancellationToken
from rmbg.runtime.messages import public_text
from rmbg.settings import Settings

log = logging.getLogger(__name__)

#: Below Gradio's prefix are no routes of the API: the guard would take them for others, with other limits.
_PATH = re.compile(r"(?!.*/gradio_api/).*/(v1\.0/(?:removebg|account|improve|openapi\.json))")

#: Concurrent downloads; a slow server may block one until its deadline.
DOWNLOADS_AT_ONCE = 8

#: Limits of a body in parts; that of all bytes is the server's.
MAX_FILES, MAX_FIELDS, MAX_FIELD_BYTES = 4, 200, 200_000_000

#: Credits that /account reports for a key without a limit.
UNLIMITED = MAX_CREDITS


def route_of(path: str) -> str:
    """Return the route of the API in the path of a request, such as ``v1.0/removebg``; empty for other paths."""
    match = _PATH.fullmatch(path)
    return match[1] if match else ""


@dataclass(frozen=True)
class Machine:
    """What the calls of a server share.

    Attributes
    ----------
    run : async callable (call, work) -> Answer
        Calls `work` in a thread once there is a slot for a call of the provider. Raises NotReadyError at once if too many calls
        wait. If its task is cancelled, it leaves the queue or cancels the token of the call.
    device : callable (check) -> context manager
        Held while a local network runs.
    memory : callable (photo, check) -> context manager
        Held while a photo is processed.
    """

    run: Callable[[Call, Callable[[], Answer]], Awaitable[Answer]]
    device: DeviceTurn
    memory: Callable[[Photo, Callable[[], None]], AbstractContextManager[None]]


@dataclass(frozen=True, eq=False)
class Call:
    """A validated request and its client."""

    removal: Removal
    client: ClientKey | None
    settings: Settings
    as_json: bool
    token: CancellationToken = field(default_factory=CancellationToken)


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
        except RmbgError as error:
            made = failure_of(error, shared=True).answer()
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("A request of the API failed")
            made = Failure("internal_error").answer()
        headers = {**made.headers, "Cache-Control": "no-store"}
        await Response(made.body, made.status, headers, made.media_type)(scope, receive, send)

    async def _removebg(self, request: Request, settings: Settings) -> Answer:
        client = await anyio.to_thread.run_sync(authorize, request.headers, settings)
        wait, limits = await anyio.to_thread.run_sync(take, client, settings)
        try:
            if wait:
                raise Failure("rate_limit_exceeded", f"The next call of this key is possible in {wait} s.", retry=wait)
            removal = await anyio.to_thread.run_sync(parse, await fields_of(request), settings)
            settings = settings_for(client, removal.provider.info, settings)
            call = Call(removal, client, settings, "application/json" in request.headers.get("accept", ""))
            made = await _while_connected(request.receive, call.token, self._answer(call))
        except Failure as failure:
            made = failure.answer()
        return replace(made, headers={**made.headers, **limits})

    async def _answer(self, call: Call) -> Answer:
        removal, backdrop = call.removal, None
        data = await self._content(removal.source, "failed_image_download", call)
        if removal.backdrop is not None:
            backdrop = await self._content(removal.backdrop, "failed_bg_download", call)
        work = partial(_made, data, backdrop, call, self._machine)
        try:
            return await self._machine.run(call, work)
        except NotReadyError as error:
            raise Failure("rate_limit_exceeded", str(error)) from None

    async def _content(self, source: bytes | str, code: str, call: Call) -> bytes:
        """Return the content of a picture, which is downloaded if `source` is a URL."""
        if isinstance(source, bytes):
            return source
        settings = call.settings
        limits: dict[str, Any] = {"max_bytes": settings.max_bytes, "loopback_hosts": settings.photo_hosts}
        load = partial(fetch, source, plain_http=True, cancelled=call.token.cancelled, **limits)
        try:
            return await anyio.to_thread.run_sync(load, limiter=self._downloads)
        except RmbgError as error:
            raise Failure(code, public_text(str(error), shared=settings.shared)) from None


def _made(data: bytes, backdrop: bytes | None, call: Call, machine: Machine) -> Answer:
    """Return the response to a call whose pictures are loaded, in a thread. Errors are responses as well."""
    removal, settings, token = call.removal, call.settings, call.token

    def work() -> tuple[Answer, Cost]:
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
                made = answer(restored(cutout, sized, rows, columns), removal, picture, as_json=call.as_json)
                token.check()  # what a client that has disconnected has paid for is kept
                return made, cutout.cost

    try:
        return charged(call.client, removal, settings, work)
    except Failure as failure:
        return failure.answer()
    except RmbgError as error:
        return failure_of(error, shared=settings.shared).answer()


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
    await anyio.to_thread.run_sync(authorize, request.headers, settings)
    async for _ in request.stream():
        pass
    return _json({"id": "", "detail": "Thank you. This server collects no pictures; nothing was stored."})


async def _account(request: Request, settings: Settings) -> Answer:
    client = await anyio.to_thread.run_sync(authorize, request.headers, settings)
    left = Decimal(0) if client is None else UNLIMITED if client.credits is None else client.credits
    credits = {"total": float(left), "subscription": 0, "payg": float(left), "enterprise": 0}
    return _json({"data": {"attributes": {"credits": credits, "api": {"free_calls": 0, "sizes": "all"}}}})


async def _openapi(request: Request, settings: Settings) -> Answer:
    return _json(document())


def _json(value: Any) -> Answer:
    return Answer(200, json.dumps(value).encode())
