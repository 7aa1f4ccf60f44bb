"""Run the app in a network namespace whose loopback interface has public addresses, and send it references to them.

A script: its argument is a list of environments, and it prints the list of their results. Each environment adds variables to
the previous one. `test_addresses.py` starts it under ``unshare --net``.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.security.gradio_requests import FILE, App
from tests.security.server import picture

#: Addresses of the machine: a public one of its own, the provider's inner network, and ways to write the first in IPv6.
ADDRESSES = ("11.22.33.44/32", "100.64.7.7/32", "2002:b16:212c::1/128", "64:ff9b::b16:212c/128", "2a00:1450::77/128")

HOSTS = ("11.22.33.44", "100.64.7.7", "[2002:b16:212c::1]", "[64:ff9b::b16:212c]", "[2a00:1450::77]", "127.0.0.1", "localhost")

PHOTO = base64.b64encode(picture()).decode()


class Listener:
    """Server that accepts and counts connections on every address, and never responds."""

    def __init__(self) -> None:
        self.connections: list[socket.socket] = []
        self._socket = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            self.connections.append(connection)
            threading.Timer(3, connection.close).start()


def ways(app: App, url: str) -> dict[str, Callable[[], Any]]:
    """Return the requests that can contain a URL."""
    rest = ["builtin", "transparent", False, "png"]
    return {
        "path": lambda: app.queue("remove_background", [{"path": url, "meta": FILE}, *rest]),
        "url": lambda: app.queue("remove_background", [{"path": "a", "url": url, "meta": FILE}, *rest]),
        "bare": lambda: app.queue("remove_background", [{"path": url}, *rest]),
        "text": lambda: app.queue("remove_background", [None, {"path": url, "meta": FILE}, *rest[1:]]),
        "list": lambda: app.queue("remove_background", [[{"path": url, "meta": FILE}], *rest]),
        "page": lambda: app.queue("photo.upload", [{"path": url, "meta": FILE}]),
        "file": lambda: app.http.get(f"/gradio_api/file={url}").text,
        "box": lambda: app.queue("load.click", [url]),
        "image_url": lambda: app.http.post("/v1.0/removebg", data={"image_url": url}).text,
        "bg_image_url": lambda: app.http.post("/v1.0/removebg", data={"image_file_b64": PHOTO, "bg_image_url": url}).text,
    }


def connections(listener: Listener, app: App) -> dict[str, Any]:
    """Send each request with each address; return connections, seconds, message and data by way and host."""
    results: dict[str, Any] = {}
    for host in HOSTS:
        url = f"http://{host}:{listener.port}/x.png"
        for way, request in ways(app, url).items():
            before, started = len(listener.connections), time.monotonic()
            try:
                outcome = request()
            except Exception as error:
                outcome = repr(error)
            results[f"{way} {host}"] = {
                "connections": len(listener.connections) - before,
                "seconds": time.monotonic() - started,
                "message": getattr(outcome, "message", outcome),
                "data": str(getattr(outcome, "data", "")),
            }
    return results


def main() -> None:
    for command in ("link set lo up", *(f"addr add {address} dev lo" for address in ADDRESSES)):
        subprocess.run(["ip", *command.split()], check=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"RMBG_DATA": folder, "GRADIO_TEMP_DIR": folder, "NO_PROXY": "*"}
        from rmbg.ui.app import launch

        listener, results = Listener(), []
        for environ in json.loads(sys.argv[1]):
            os.environ |= environ
            blocks = launch(host="127.0.0.1", prevent_thread_lock=True, quiet=True)
            results.append(connections(listener, App(f"http://127.0.0.1:{blocks.server_port}", timeout=60)))
            blocks.close(verbose=False)
        sys.stdout.write(f"{json.dumps(results)}\n")
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
