"""Loopback Hugging Face Hub and its router to fal, under one URL."""

from __future__ import annotations

from typing import Any

from tests.servers.fal import Fal
from tests.servers.service import FAULTS
from tests.servers.web import Exchange

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz0123"


class Router(Fal):
    name = "Hugging Face"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.polls = 1
        self.key = TOKEN

    def answer(self, exchange: Exchange) -> None:
        path = exchange.path.partition("?")[0]
        if path == "/api/models/briaai/RMBG-2.0":
            if self.inject_fault("mapping", exchange):
                return
            served = {"providerId": "fal-ai/bria/background/remove", "status": "live", "task": "image-segmentation"}
            return exchange.send_json(200, {"id": "briaai/RMBG-2.0", "inferenceProviderMapping": {"fal-ai": served}})
        if path in self.files:
            return self.send_file(exchange)
        if exchange.headers.get("Authorization") != f"Bearer {self.key}":
            return self.refuse(exchange, 401, "Invalid username or password.")
        if exchange.command == "POST" and path.startswith("/fal-ai/"):
            return self._submit(exchange, path.removeprefix("/fal-ai/"))
        self._queue(exchange, path.removeprefix("/queue/"))


HF_FAULTS = FAULTS | {
    "401": lambda s, x: s.refuse(x, 401, f"Invalid token {TOKEN}"),
    "no balance": lambda s, x: s.refuse(x, 402, "You have exceeded your monthly included credits for Inference Providers."),
}
