"""Loopback remove.bg, API version 1.0."""

from __future__ import annotations

import base64
import email
import email.policy
import io
import json
from typing import Any

from PIL import Image

from tests.servers.service import FAULTS, Service
from tests.servers.web import Exchange

#: Largest result of the size ``preview``, in pixels.
PREVIEW_PIXELS = 250_000


class RemoveBg(Service):
    name = "remove.bg"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.credits: str | None = None  # X-Credits-Charged; None: by size, "": no header

    def answer(self, exchange: Exchange) -> None:
        if exchange.path != "/v1.0/removebg" or exchange.command != "POST":
            return exchange.send(404)
        if exchange.headers.get("X-Api-Key") != self.key:
            return self.refuse(exchange, 403, "API Key invalid", "auth_failed")
        fields = form_fields(exchange)
        if self.inject_fault("submit", exchange):
            return
        sources = [name for name in ("image_file", "image_file_b64", "image_url") if fields.get(name)]
        if len(sources) != 1:
            code = "multiple_sources" if sources else "missing_source"
            return self.refuse(exchange, 400, "Give exactly one image", code)
        data = fields["image_file"] if "image_file" in fields else base64.b64decode(fields["image_file_b64"])
        try:
            width, height = Image.open(io.BytesIO(data)).size
        except OSError:
            return self.refuse(exchange, 400, "Failed to read the image", "failed_to_read_image")
        self.jobs.append({"fields": {k: v for k, v in fields.items() if not isinstance(v, bytes)}})
        if self.inject_fault("stored", exchange):
            return
        size = fields.get("size", "preview")
        preview = size in ("preview", "small", "regular")
        if preview and width * height > PREVIEW_PIXELS:
            scale = (PREVIEW_PIXELS / (width * height)) ** 0.5
            self.size = (int(width * scale), int(height * scale))
        self.form = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP"}.get(fields.get("format", "auto"), "PNG")
        made = self.made(data, mask=fields.get("channels") == "alpha")
        charged = self.credits if self.credits is not None else ("0.25" if preview else "1")
        headers = {"X_Type": "other", "X_Width": str(width), "X_Height": str(height)}
        if charged:
            headers["X_Credits_Charged"] = charged
        if exchange.headers.get("Accept") == "application/json":
            return exchange.send_json(200, {"data": {"result_b64": base64.b64encode(made).decode()}}, **headers)
        exchange.send(200, made, "image/png", **headers)

    def refuse(self, exchange: Exchange, status: int, message: str, code: str = "error", **headers: str) -> None:
        exchange.send_json(status, {"errors": [{"title": message, "code": code}]}, **headers)


def form_fields(exchange: Exchange) -> dict[str, Any]:
    """Parse the fields of a multipart form, with files as bytes, or of a JSON body."""
    kind = exchange.headers.get("Content-Type", "")
    if kind.startswith("application/json"):
        return json.loads(exchange.seen.body)
    head = f"Content-Type: {kind}\r\n\r\n".encode()
    message = email.message_from_bytes(head + exchange.seen.body, policy=email.policy.HTTP)
    fields: dict[str, Any] = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="Content-Disposition")
        data = part.get_payload(decode=True)
        fields[str(name)] = data if part.get_filename() else data.decode()
    return fields


REMOVEBG_FAULTS = FAULTS | {
    "401": lambda s, x: s.refuse(x, 403, f"API Key invalid: {x.headers.get('X-Api-Key')}", "auth_failed"),
    "no balance": lambda s, x: s.refuse(x, 402, "Insufficient credits", "insufficient_credits"),
    "422 with the picture": lambda s, x: s.refuse(
        x, 400, "Failed to read " + base64.b64encode(x.seen.body).decode(), "failed_to_read_image"
    ),
    "error without code": lambda s, x: x.send_json(400, {"errors": [{"title": "Something about the input"}]}),
    "no subject": lambda s, x: s.refuse(x, 400, "Could not identify foreground in image", "unknown_foreground"),
}
