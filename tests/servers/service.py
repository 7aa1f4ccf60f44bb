"""What the stand-ins for paid services have in common: pictures, jobs that are counted, and faults on demand."""

from __future__ import annotations

import email.utils
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from tests.servers.web import Exchange, Web

KEY = "id-0123456789:secret-abcdef0123456789"

Fault = Callable[["Service", Exchange], Any]


def cut_out(data: bytes, *, size: tuple[int, int] | None = None, form: str = "PNG", mask: bool = False) -> bytes:
    """What a service would make of a picture: an ellipse with a soft edge stays, all around it goes."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    if size:
        image = image.resize(size)
    x, y = np.linspace(-1, 1, image.width), np.linspace(-1, 1, image.height)[:, None]
    alpha = np.clip((0.8 - np.hypot(x, y)) * 10 + 0.5, 0, 1)
    grey = Image.fromarray(np.rint(alpha * 255).astype(np.uint8))
    if mask:
        image = grey
    elif form != "JPEG":
        image.putalpha(grey)
    out = io.BytesIO()
    image.save(out, form)
    return out.getvalue()


class Service(Web):
    """A paid service. `jobs` holds every job that was taken, which is every job that is paid for.

    `faults` maps steps (``submit`` before the job is stored, ``stored`` right after, ``status``, ``result``, ``picture`` and
    what else a service has) to what happens there instead of an answer.
    """

    name = "service"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.key = KEY
        self.jobs: list[dict[str, Any]] = []
        self.faults: dict[str, Fault] = {}
        self.files: dict[str, tuple[bytes, str]] = {}
        self.form = "PNG"
        self.size: tuple[int, int] | None = None
        self.picture: bytes | None = None
        self.picture_kind = "image/png"
        self.picture_host: str | None = None

    def misbehaves(self, step: str, exchange: Exchange) -> bool:
        """Whether a fault has taken over the answer."""
        fault = self.faults.get(step)
        if fault:
            fault(self, exchange)
        return fault is not None

    def refuse(self, exchange: Exchange, status: int, words: str, code: str = "error", **headers: str) -> None:
        """An error in the service's own words."""
        raise NotImplementedError

    def made(self, data: bytes, **options: Any) -> bytes:
        """The result for a picture, or the one that a test has put in its place."""
        return self.picture or cut_out(data, size=self.size, form=self.form, **options)

    def publish(self, data: bytes) -> str:
        """Put a file where the service puts its results; returns the address."""
        path = f"/files/{len(self.files)}.png"
        self.files[path] = (data, self.picture_kind)
        return f"http://{self.picture_host or f'127.0.0.1:{self.port}'}{path}"

    def give_file(self, exchange: Exchange) -> None:
        if not self.misbehaves("picture", exchange):
            exchange.send(200, *self.files[exchange.path])


def once(fault: Fault, step: str) -> Fault:
    """A fault that happens at its first opportunity only."""

    def first(service: Service, exchange: Exchange) -> None:
        del service.faults[step]
        fault(service, exchange)

    return first


def huge(service: Service, exchange: Exchange) -> None:
    """A body without end."""
    exchange.start(200, 10**10, "application/json")
    while not service.closing.is_set():
        exchange.wfile.write(bytes(1 << 20))


def in_seconds(seconds: int) -> str:
    """A date for Retry-After."""
    return email.utils.formatdate(time.time() + seconds, usegmt=True)


def bomb() -> bytes:
    """A small PNG file that claims to be 30000 x 30000 pixels."""
    out = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(out, "PNG")
    return out.getvalue()


#: Faults that mean the same everywhere, by name. Each service adds those of its own protocol.
FAULTS: dict[str, Fault] = {
    "429 with seconds": lambda s, x: s.refuse(x, 429, "Too many requests", "rateLimitExceeded", Retry_After="1"),
    "429 with a date": lambda s, x: s.refuse(x, 429, "Too many requests", "rateLimitExceeded", Retry_After=in_seconds(1)),
    "429 for an hour": lambda s, x: s.refuse(x, 429, "Too many requests", "rateLimitExceeded", Retry_After="3600"),
    "500": lambda s, x: s.refuse(x, 500, "Internal error", "internalServerError"),
    "503": lambda s, x: s.refuse(x, 503, "No runner", "serviceUnavailable"),
    "page of a gateway": lambda s, x: x.send(502, b"<html><head><title>502 Bad Gateway</title></head></html>", "text/html"),
    "page instead of JSON": lambda s, x: x.send(200, b"<!doctype html><h1>Maintenance</h1>", "text/html"),
    "JSON of another shape": lambda s, x: x.send_json(200, {"surprise": [1, {"url": None}]}),
    "slow bytes": lambda s, x: x.drip(b'{"data": []}' + b" " * 400, 0.02, kind="application/json"),
    "hang": lambda s, x: x.hang(),
    "dropped connection": lambda s, x: x.drop(),
    "broken off": lambda s, x: x.cut(b'{"da', "application/json"),
    "huge body": huge,
    "redirect to this machine": lambda s, x: x.send(307, Location=f"{s.url}/secret"),
}

#: Faults of the download of a result.
PICTURE_FAULTS: dict[str, Fault] = {
    "gone": lambda s, x: x.send(404),
    "truncated": lambda s, x: x.send(200, s.files[x.path][0][: len(s.files[x.path][0]) // 2], "image/png"),
    "broken off": lambda s, x: x.cut(s.files[x.path][0][:50]),
    "page as picture": lambda s, x: x.send(200, b"<!doctype html><h1>Sorry</h1>", "image/png"),
    "huge body": huge,
    "slow bytes": lambda s, x: x.drip(s.files[x.path][0], 0.02),
    "dropped connection": lambda s, x: x.drop(),
    "redirect to this machine": lambda s, x: x.send(302, Location="http://127.0.0.1:9/secret"),
    "no transparency": lambda s, x: x.send(200, cut_out(s.files[x.path][0], form="JPEG"), "image/jpeg"),
    "pixel bomb": lambda s, x: x.send(200, bomb(), "image/png"),
}
