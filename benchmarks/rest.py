"""Requests a second of remove.bg's API on this machine, beside the server of rembg with an IS-Net.

    python -m benchmarks.rest [--rembg-python FILE] [--connections 1 8 32] [--seconds N]
    python -m benchmarks.rest --disconnects 500

Clients send a JPEG of 1.7 megapixels over connections that stay open, and receive a PNG of the same size. The servers run one
after the other for each number of connections. The Python of rembg is that of an environment with ``pip install
"rembg[cpu,cli]"``. It gets a network of the same architecture with synthetic weights, as speed does not depend on training; the
export needs onnx beside torch.

With --disconnects, eight clients send N requests, a third of which disconnect at a random moment.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np

from benchmarks import peers, serving, soak
from benchmarks.photos import EXAMPLES, FOLDER, jpeg
from benchmarks.table import machine

#: Bytes of memory for rembg, which takes 0.7 GB for each concurrent request, whatever its option --threads.
REMBG_BYTES = 12 * 10**9

#: Clients that disconnect, and the requests before memory is measured for the first time.
CLIENTS, WARM_UP = 8, 50

BOUNDARY = "a8b2b1e5f0c94d7e"

HEADER = "| server | connections | requests a second | p50 s | p99 s | errors | memory MB |\n|---|---|---|---|---|---|---|"


@dataclass(frozen=True)
class Target:
    """A server and the request that it gets."""

    title: str
    port: int
    path: str
    body: bytes
    process: int

    def connect(self) -> http.client.HTTPConnection:
        """Return a connection, which is opened by its first request."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)

    def send(self, connection: http.client.HTTPConnection) -> None:
        """Send the request without waiting for its response."""
        connection.request("POST", self.path, self.body, {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"})


@dataclass
class Tally:
    """Seconds of the successful requests, descriptions of the others, and the seconds of all together."""

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    total: float = 0.0


def form(name: str, photo: bytes, **fields: str) -> bytes:
    """Return a multipart body with a photo as the field `name`, and other fields."""
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; name="
    parts = [f'{head}"{key}"\r\n\r\n{value}\r\n' for key, value in fields.items()]
    file = f'{head}"{name}"; filename="photo.jpg"\r\n\r\n'
    return "".join([*parts, file]).encode() + photo + f"\r\n--{BOUNDARY}--\r\n".encode()


@contextlib.contextmanager
def ours(photo: bytes) -> Iterator[Target]:
    """Run ``rmbg serve``."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        port = serving.free_port()
        with stopped(serving.start(Path(folder), port)) as process:
            body = form("image_file", photo, size="full", format="png", rmbg_provider="builtin")
            yield Target("rmbg, built-in", port, "/v1.0/removebg", body, process)


@contextlib.contextmanager
def rembg(python: Path, photo: bytes) -> Iterator[Target]:
    """Run ``rembg s``."""
    peers.onnx_file(FOLDER)
    port = serving.free_port()
    words = f"s --host 127.0.0.1 --port {port} --no-ui --log_level error".split()
    program = "import webbrowser; webbrowser.open = print; from rembg.cli import main; main()"  # without a browser
    environment = {**os.environ, "U2NET_HOME": str(FOLDER), "MODEL_CHECKSUM_DISABLED": "1"}
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            [python, "-c", program, *words], env=environment, stdout=log, stderr=log, preexec_fn=limit_memory
        )
        with stopped(serving.answering(process, f"http://127.0.0.1:{port}/api", Path(log.name))) as number:
            yield Target("rembg, IS-Net", port, "/api/remove", form("file", photo, model="isnet-general-use"), number)


def limit_memory() -> None:
    """Limit the memory of this process, so that the system does not end others for it."""
    resource.setrlimit(resource.RLIMIT_DATA, (REMBG_BYTES, REMBG_BYTES))


@contextlib.contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[int]:
    """Yield the id of a process, which is terminated after the block."""
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def load(target: Target, connections: int, more: Callable[[], bool], disconnects: Callable[[], float | None]) -> Tally:
    """Send requests over several connections, on each the next one after the response, as long as `more` returns True.

    `disconnects` returns the seconds after which the next request disconnects, or None.
    """
    tally = Tally()

    def client() -> None:
        connection = target.connect()
        while more():
            leaving, began = disconnects(), time.perf_counter()
            try:
                target.send(connection)
                if leaving is not None:
                    time.sleep(leaving)
                    connection.close()
                    continue
                response = connection.getresponse()
                content = response.read()
                if response.status != 200 or not content.startswith(b"\x89PNG"):
                    raise ValueError(f"status {response.status}: {content[:200]!r}")
                tally.seconds.append(time.perf_counter() - began)
            except (OSError, http.client.HTTPException, ValueError) as error:
                tally.errors.append(f"{type(error).__name__}: {error}")
                connection.close()
                if isinstance(error, ConnectionRefusedError):  # the server has ended
                    return
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(connections)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tally.total = time.perf_counter() - began
    return tally


def number_of(count: int) -> Callable[[], bool]:
    """Return a function that returns True `count` times."""
    numbers, lock = iter(range(count)), threading.Lock()

    def more() -> bool:
        with lock:
            return next(numbers, None) is not None

    return more


def measure(target: Target, connections: int, seconds: float) -> float:
    """Print a row of the table, and return the requests a second."""
    load(target, connections, number_of(max(connections, 4)), lambda: None)
    end = time.perf_counter() + seconds
    tally = load(target, connections, lambda: time.perf_counter() < end, lambda: None)
    rate = len(tally.seconds) / tally.total
    p50, p99 = np.percentile(tally.seconds or [float("nan")], (50, 99))
    cells = [target.title, str(connections), f"{rate:.2f}", f"{p50:.2f}", f"{p99:.2f}", str(len(tally.errors))]
    print(f"| {' | '.join(cells)} | {soak.memory(target.process):.0f} |", flush=True)
    for error in tally.errors[:3]:
        print(f"  {error}", file=sys.stderr)
    return rate


def disconnect(target: Target, count: int) -> int:
    """Print memory before and after `count` requests, and return the exit status."""
    longest = 2 * max(load(target, CLIENTS, number_of(WARM_UP), lambda: None).seconds)
    before = soak.memory(target.process)
    random_ = random.Random(1)
    tally = load(target, CLIENTS, number_of(count), lambda: random_.uniform(0, longest) if random_.random() < 1 / 3 else None)
    tally.errors += load(target, CLIENTS, number_of(CLIENTS), lambda: None).errors  # the server still answers
    after = soak.memory(target.process)
    print(f"{count} requests, {len(tally.seconds)} answered, {len(tally.errors)} errors", end="; ")
    print(f"memory {before:.0f} MB, then {after:.0f} MB", *tally.errors[:10], sep="\n  ")
    return bool(tally.errors)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rembg-python", type=Path, metavar="FILE", help="interpreter of an environment with rembg")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=30.0, help="of each measurement")
    parser.add_argument("--disconnects", type=int, metavar="N", help="send N requests, a third of which disconnect")
    parser.add_argument("--photos", type=Path, default=EXAMPLES, help="folder of photos; by default the examples")
    arguments = parser.parse_args()
    photo = jpeg("1.7 MP", arguments.photos).read_bytes()
    print(f"{machine()}, {date.today()}, load before the start {os.getloadavg()[0]:.1f}\n", flush=True)
    if arguments.disconnects is not None:
        with ours(photo) as target:
            return disconnect(target, arguments.disconnects)
    print(HEADER, flush=True)
    ratios = []
    for connections in arguments.connections:
        with ours(photo) as target:
            rate = measure(target, connections, arguments.seconds)
        if arguments.rembg_python is not None:
            with rembg(arguments.rembg_python, photo) as target:
                if other := measure(target, connections, arguments.seconds):
                    ratios.append(f"{rate / other:.1f} at {connections} connections")
    if ratios:
        print(f"\nRequests a second as a multiple of those of rembg: {', '.join(ratios)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
