"""Files left by a server that is stopped or killed at random times.

    python -m benchmarks.kills --times 20

Each round starts a server, runs visitors that remove backgrounds, and sends SIGINT, SIGTERM or SIGKILL at a random time. After
the last round one more server is started and stopped. No files may remain in the temporary folder then.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks import serving
from benchmarks.soak import Soak, disk

SIGNALS = ("SIGINT", "SIGTERM", "SIGKILL")

#: Concurrent visitors, and the longest time before the signal, in seconds.
VISITORS, MAX_DELAY = 4, 12.0

#: Time limit for the exit of a server after SIGINT or SIGTERM, in seconds.
EXIT_SECONDS = 60.0


def files(folder: Path) -> set[Path]:
    """Return all files below a folder except lock files."""
    return {path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def run_and_signal(soak: Soak, number: int, delay: float) -> tuple[int, float]:
    """Run a server under load and send it a signal after `delay` seconds; returns exit status and seconds until exit."""
    soak.port = serving.free_port()
    soak.url = f"http://127.0.0.1:{soak.port}"
    soak.stopping = threading.Event()
    process = soak.start()
    threads = [threading.Thread(target=soak.visit, args=(visitor,), daemon=True) for visitor in range(soak.visitors)]
    for thread in threads:
        thread.start()
    time.sleep(delay)
    soak.stopping.set()
    began = time.monotonic()
    process.send_signal(number)
    try:
        status = process.wait(EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        status = -1000
    return status, time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background shells ignore SIGINT, which the servers would inherit
    random_ = random.Random(arguments.seed)
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="rmbg-kills-", ignore_cleanup_errors=True) as name:
        soak = Soak(VISITORS, 1, Path(name))
        temporary = Path(name) / "tmp"
        print("| round | signal | after s | status | exit s | files left | MB left | of earlier rounds |")
        print("|---|---|---|---|---|---|---|---|", flush=True)
        previous: set[Path] = set()
        for round_ in range(1, arguments.times + 1):
            kind = random_.choice(SIGNALS)
            delay = random_.uniform(0, MAX_DELAY)
            status, seconds = run_and_signal(soak, getattr(signal, kind), delay)
            now = files(temporary)
            old = len(now & previous)
            print(
                f"| {round_} | {kind} | {delay:.1f} | {status} | {seconds:.1f} | {len(now)} | {disk(temporary):.1f} | {old} |",
                flush=True,
            )
            if old:
                failures.append(f"round {round_}: {old} files of earlier rounds remain")
            if kind != "SIGKILL" and (status != 0 or now):
                failures.append(f"round {round_}: {kind} ended with status {status} and left {len(now)} files")
            previous = now
        run_and_signal(soak, signal.SIGTERM, 0)
        if remaining := files(temporary):
            failures.append(f"{len(remaining)} files remain after the last start, such as {next(iter(remaining))}")
    print("\n" + ("\n".join(failures) if failures else "no files remain"))
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
