"""Start, memory at rest and memory under load of the server: ``python -m benchmarks.load [--removals N] [--photos FOLDER]``.

The server runs in a process of its own. Its start ends with its first page, its memory is the resident set.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import serving
from benchmarks.memory import process_memory
from benchmarks.photos import EXAMPLES, jpeg
from benchmarks.table import record

STARTS = 3

#: Seconds without a change of more than `STILL_MB` after which memory counts as at rest.
STILL_SECONDS, STILL_MB, LIMIT = 5, 1, 60


def main() -> None:
    parser = argparse.ArgumentParser(description="Start and memory of the server.")
    parser.add_argument("--removals", type=int, default=50, help="of 24 megapixels")
    parser.add_argument("--photos", type=Path, default=EXAMPLES, help="folder of photos; by default the examples")
    arguments = parser.parse_args()
    photo = jpeg("24 MP", arguments.photos)
    starts = []
    for number in range(STARTS):
        with server() as (url, pid, seconds):
            starts.append(seconds)
            if number < STARTS - 1:
                continue
            idle = at_rest(pid)
            removals = remove(url, photo, arguments.removals)
            after, peak = at_rest(pid), process_memory("VmHWM", pid) / 1e6
    details = [
        f"page: first answer after {min(starts):.1f} s, the fastest of {STARTS} starts, {idle:.0f} MB idle",
        f"{len(removals)} removals of 24 MP, median {statistics.median(removals):.1f} s: {after:.0f} MB, peak {peak:.0f} MB",
    ]
    record("server", [min(starts), idle, after], details)


@contextlib.contextmanager
def server() -> Iterator[tuple[str, int, float]]:
    """Run the server; yields its URL, its process id and the seconds until its first page."""
    port = serving.free_port()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        process = serving.start(Path(folder), port)
        try:
            yield f"http://127.0.0.1:{port}", process.pid, time.perf_counter() - started
        finally:
            process.terminate()
            process.wait()


def remove(url: str, photo: Path, count: int) -> list[float]:
    """Seconds of `count` removals through the API, one after the other."""
    from gradio_client import Client, handle_file

    client = Client(url, verbose=False)
    seconds = []
    for _ in range(count):
        started = time.perf_counter()
        result = client.predict(image=handle_file(str(photo)), api_name="/remove_background")
        seconds.append(time.perf_counter() - started)
        Path(result).unlink(missing_ok=True)
    client.close()
    return seconds


def at_rest(pid: int) -> float:
    """Resident memory of a process in megabytes once it is stable."""
    limit = time.monotonic() + LIMIT
    values = [process_memory("VmRSS", pid) / 1e6]
    while time.monotonic() < limit:
        time.sleep(1)
        values.append(process_memory("VmRSS", pid) / 1e6)
        last = values[-STILL_SECONDS:]
        if len(last) == STILL_SECONDS and max(last) - min(last) <= STILL_MB:
            break
    return values[-1]


if __name__ == "__main__":
    main()
