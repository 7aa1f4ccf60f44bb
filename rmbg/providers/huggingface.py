"""Hugging Face Inference Providers: RMBG 2.0, run by fal and billed by Hugging Face, through the hub's own client.

The client runs in a process of its own (hf_worker.py), so that it can be given a deadline and be stopped.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from rmbg.cutout import Cost
from rmbg.errors import NotReadyError, ServiceError
from rmbg.fetch import parse
from rmbg.http import Session, address
from rmbg.prices import PRICES
from rmbg.providers.base import Call, ProviderInfo
from rmbg.providers.remote import Remote, Reply, Sent, from_data_uri

WORKER = Path(__file__).with_name("hf_worker.py")

#: Where the client may connect to: the hub, its router, and where fal keeps results.
HOSTS = ("huggingface.co", "router.huggingface.co", "fal.media")

#: Started by its path and not as a module, which would import the whole package first.
_START = "import runpy, sys; sys.path.pop(0); runpy.run_path(sys.argv[1], run_name='__main__')"

#: Seconds between two looks at whether there is news.
LOOK = 0.05


class HuggingFace(Remote):
    service = "Hugging Face"
    info = ProviderInfo(
        id="hf-rmbg-2.0",
        title="Hugging Face: RMBG 2.0",
        kind="remote",
        model="briaai/RMBG-2.0 on fal",
        licence="BRIA's RMBG 2.0 as a service; Hugging Face's terms for inference providers.",
        licence_url="https://huggingface.co/briaai/RMBG-2.0",
        pixels="The photo is sent to Hugging Face, which passes it on to fal.ai.",
        price_usd=PRICES["hf-rmbg-2.0"].usd,
        price_basis=PRICES["hf-rmbg-2.0"].basis,
        price_seen="",
        seconds=6.0,
        input_size="1024 x 1024",
        supports=("soft alpha",),
        key_name="HF_TOKEN",
    )

    def ask(self, session: Session, sent: Sent, options: Mapping[str, Any], call: Call) -> Reply:
        if not session.key.startswith("hf_"):
            raise NotReadyError("A token of Hugging Face begins with hf_; make one that may call inference providers.")
        call.progress(None, "Sending the photo to Hugging Face")
        answer: dict[str, Any] = {}
        steps: set[str] = set()
        try:
            with _worker(_order(session, call), sent.data, steps) as news:
                while not answer:
                    session.pause(LOOK)
                    with contextlib.suppress(queue.Empty):
                        answer = news.get_nowait()
                    if "taken" in steps:
                        call.progress(None, "fal is working for Hugging Face")
        finally:
            if "sent" in steps:
                session.cost = Cost(None, "unknown")
        if "error" in answer:
            raise failure(session, answer, taken="taken" in steps)
        return Reply(from_data_uri(session, answer["image"]))


def _order(session: Session, call: Call) -> dict[str, Any]:
    url = address(call.settings, "RMBG_HF_URL", "https://huggingface.co")
    place = parse(url)
    return {
        "token": session.key,
        "url": url if call.settings.environ.get("RMBG_HF_URL") else None,
        "origins": [f"{place.scheme}://{place.netloc.decode()}"],
        "hosts": list(HOSTS),
        "seconds": max(session.trip.left, 0.01),
        "limit": session.max_bytes,
        "pixels": call.settings.max_pixels,
    }


@contextlib.contextmanager
def _worker(order: Mapping[str, Any], photo: bytes, steps: set[str]) -> Iterator[queue.Queue[dict[str, Any]]]:
    """A process that works on `order`. Its steps go into `steps`, its answer into the queue; it ends with the block."""
    process = subprocess.Popen(
        [sys.executable, "-c", _START, str(WORKER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdin and process.stdout
    news: queue.Queue[dict[str, Any]] = queue.Queue()
    listener = threading.Thread(target=_listen, args=(process.stdout, news, steps), daemon=True)
    listener.start()
    try:
        with contextlib.suppress(OSError):  # a process that has ended already says so by saying nothing
            process.stdin.write(json.dumps(order).encode() + b"\n" + photo)
            process.stdin.close()
        yield news
    finally:
        process.kill()
        process.wait()
        listener.join(5)  # what it said last counts


def _listen(stream: IO[bytes], news: queue.Queue[dict[str, Any]], steps: set[str]) -> None:
    with stream:
        for line in stream:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if "step" in message:
                    steps.add(message["step"])
                else:
                    news.put(message)
    news.put({"error": "ended", "text": ""})


def failure(session: Session, answer: Mapping[str, Any], *, taken: bool) -> ServiceError:
    """The error that the worker tells of; `taken` is whether the answer to the paid request had come."""
    kind, status = answer["error"], int(answer.get("status") or 0)
    said = session.said(answer.get("text"))
    if not taken and 300 <= status < 500:
        session.refused()
    if status in (401, 403):
        return ServiceError("Hugging Face does not accept the token; it must be allowed to call inference providers.", "user")
    if status == 402:
        return ServiceError("Hugging Face has no credits left for this account this month.", "user")
    if status == 429:
        return ServiceError("Hugging Face has too many requests from this account at the moment; try again later.", "user")
    if status in (400, 413, 422):
        return ServiceError(f"Hugging Face cannot use the photo{said}", "user")
    if kind == "http":
        return ServiceError(f"Hugging Face failed (HTTP {status}){said}")
    if kind == "timeout":
        return ServiceError("Hugging Face stopped answering.")
    if kind == "connection":
        return ServiceError("The connection to Hugging Face failed or broke off.", "connection")
    if kind == "place":
        return ServiceError(f"Hugging Face points to a place that is not known{said}")
    if kind == "ended":
        return ServiceError("The client of Hugging Face ended without an answer.")
    return ServiceError(f"Hugging Face answered with something that is no result{said}")
