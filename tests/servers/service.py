"""Base class of the loopback servers for paid services: images, a list of accepted jobs, and injected faults."""

from __future__ import annotations

import email.utils
import io
import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests.servers.web import Exchange, Web

KEY = "id-0123456789:secret-abcdef0123456789"

Fault = Callable[["Service", Exchange], Any]


def cut_out(data: bytes, *, size: tuple[int, int] | None = None, form: str = "PNG", mask: bool = False) -> bytes:
    """Return the result of a background removal: an ellipse with a soft edge is kept, the rest is transparent."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if size:
        image = image.resize(size)
    x, y = np.linspace(-1, 1, image.width), np.linspace(-1, 1, image.height)[:, None]
    alpha = np.clip((0.8 - np.hypot(x, y)) * 10 + 0.5, 0, 1)
    gray = Image.fromarray(np.rint(alpha * 255).astype(np.uint8))
    if mask:
        image = gray
    elif form != "JPEG":
        image.putalpha(gray)
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


class Service(Web):
    """Paid service.

    Attributes
    ----------
    jobs : list of dict
        Every accepted job; each of them is charged.
    faults : dict of str to Fault
        Handlers that replace the response of a step: ``submit`` (before the job is stored), ``stored`` (right after),
        ``status``, ``result``, ``picture`` and further steps of a subclass.
    picture : bytes or None
        Result of every job, instead of the computed one.
    """

    name = "service"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.key = KEY
        self.jobs: list[dict[str, Any]] = []
        self.faults: dict[str, Fault] = {}
        self.files: dict[str, tuple[bytes, str]] = {}
        self._numbers = itertools.count()  # of files, which concurrent requests publish
        self.form = "PNG"
        self.size: tuple[int, int] | None = None
        self.picture: bytes | None = None
        self.picture_kind = "image/png"
        self.picture_host: str | None = None
        self.picture_scheme = "http"

    def inject_fault(self, step: str, exchange: Exchange) -> bool:
        """Run the fault of this step; True if there is one and it has sent the response."""
        fault = self.faults.get(step)
        if fault:
            fault(self, exchange)
        return fault is not None

    def refuse(self, exchange: Exchange, status: int, message: str, code: str = "error", **headers: str) -> None:
        """Send an error response in the format of the service."""
        raise NotImplementedError

    def made(self, data: bytes, **options: Any) -> bytes:
        """Return the result for an image, or `picture` if it is set."""
        return self.picture or cut_out(data, size=self.size, form=self.form, **options)

    def publish(self, data: bytes) -> str:
        """Store a result file and return its URL."""
        path = f"/files/{next(self._numbers)}.png"
        self.files[path] = (data, self.picture_kind)
        return f"{self.picture_scheme}://{self.picture_host or f'127.0.0.1:{self.port}'}{path}"

    def send_file(self, exchange: Exchange) -> None:
        if not self.inject_fault("picture", exchange):
            exchange.send(200, *self.files[exchange.path])


def once(fault: Fault, step: str) -> Fault:
    """Return a fault that occurs once and then removes itself."""

    def first(service: Service, exchange: Exchange) -> None:
        del service.faults[step]
        fault(service, exchange)

    return first


def huge(service: Service, exchange: Exchange) -> None:
    """Send an endless body."""
    exchange.start(200, 10**10, "application/json")
    while not service.closing.is_set():
        exchange.wfile.write(bytes(1 << 20))


def in_seconds(seconds: int) -> str:
    """Return an HTTP date `seconds` from now, for Retry-After."""
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def bomb() -> bytes:
    """Return a small PNG file of 20000 x 10000 pixels."""
    out = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(out, "PNG")
    return out.getvalue()


#: Faults common to all services. Each service adds those of its protocol.
FAULTS: dict[str, Fault] = {
    "429 with seconds": lambda s, x: s.refuse(x, 429, "Too many requests", "rateLimitExceeded", Retry_After="1"),
    "429 with a date": lambda s, x: s.refuse(x, 429, "Too many requests", "rateLimitExceeded", Retry_After=in_seconds(1)),
    "429 for an hour": lambda s, x: s.refuse(x, 429, "Too many requests", "rateLimitExceeded", Retry_After="3600"),
    "500": lambda s, x: s.refuse(x, 500, "Internal error", "internalServerError"),
    "503": lambda s, x: s.refuse(x, 503, "No runner", "serviceUnavailable"),
    "gateway error page": lambda s, x: x.send(502, b"<html><head><title>502 Bad Gateway</title></head></html>", "text/html"),
    "HTML instead of JSON": lambda s, x: x.send(200, b"<!doctype html><h1>Maintenance</h1>", "text/html"),
    "unexpected JSON": lambda s, x: x.send_json(200, {"surprise": [1, {"url": None}]}),
    "slow bytes": lambda s, x: x.drip(b'{"data": []}' + b" " * 400, 0.02, kind="application/json"),
    "hang": lambda s, x: x.hang(),
    "dropped connection": lambda s, x: x.drop(),
    "truncated body": lambda s, x: x.cut(b'{"da', "application/json"),
    "huge body": huge,
    "redirect to this machine": lambda s, x: x.send(307, Location=f"{s.url}/secret"),
}

#: Faults while a result is downloaded.
PICTURE_FAULTS: dict[str, Fault] = {
    "not found": lambda s, x: x.send(404),
    "truncated": lambda s, x: x.send(200, s.files[x.path][0][: len(s.files[x.path][0]) // 2], "image/png"),
    "truncated body": lambda s, x: x.cut(s.files[x.path][0][:50]),
    "HTML as picture": lambda s, x: x.send(200, b"<!doctype html><h1>Sorry</h1>", "image/png"),
    "huge body": huge,
    "slow bytes": lambda s, x: x.drip(s.files[x.path][0], 0.02),
    "dropped connection": lambda s, x: x.drop(),
    "redirect to this machine": lambda s, x: x.send(302, Location="http://127.0.0.1:9/secret"),
    "no transparency": lambda s, x: x.send(200, cut_out(s.files[x.path][0], form="JPEG"), "image/jpeg"),
    "pixel bomb": lambda s, x: x.send(200, bomb(), "image/png"),
}
