"""Hugging Face Inference Providers: RMBG 2.0, run by fal and billed by Hugging Face, through huggingface_hub.

The client runs in a child process (`worker`), as it supports neither a deadline nor cancellation.
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

from rmbg.billing.cost import Cost
from rmbg.billing.quote import PRICES
from rmbg.errors import NotReadyError, ServiceError
from rmbg.net.client import ServiceClient, service_url
from rmbg.net.download import parse
from rmbg.providers.base import ProviderInfo, RequestContext
from rmbg.providers.remote import EncodedPhoto, ProviderResult, Remote, from_data_uri

WORKER = Path(__file__).with_name("huggingface_worker.py")

#: Hosts to which the worker may connect: the hub, its router, and the storage of fal's results.
HOSTS = ("huggingface.co", "router.huggingface.co", "fal.media")

#: Starts the worker by its path; as a module it would import the whole package.
_START_COMMAND = "import runpy, sys; sys.path.pop(0); runpy.run_path(sys.argv[1], run_name='__main__')"

#: Interval between two checks for a message of the worker, in seconds.
POLL_INTERVAL = 0.05


class HuggingFace(Remote):
    """RMBG 2.0 through Hugging Face Inference Providers."""

    service = "Hugging Face"
    info = ProviderInfo(
        id="hf-rmbg-2.0",
        title="Hugging Face: RMBG 2.0",
        kind="remote",
        model="briaai/RMBG-2.0 on fal",
        license="BRIA's RMBG 2.0 as a service, under Hugging Face's terms for Inference Providers.",
        license_url="https://huggingface.co/briaai/RMBG-2.0",
        pixels="The photo is sent to Hugging Face, which forwards it to fal.ai.",
        price_usd=PRICES["hf-rmbg-2.0"].usd,
        price_basis=PRICES["hf-rmbg-2.0"].basis,
        price_seen="",
        seconds=6.0,
        input_size="1024 x 1024",
        supports=("soft alpha",),
        key_name="HF_TOKEN",
    )

    def request_result(
        self, client: ServiceClient, encoded_photo: EncodedPhoto, options: Mapping[str, Any], context: RequestContext
    ) -> ProviderResult:
        if not client.key.startswith("hf_"):
            raise NotReadyError("A Hugging Face token begins with hf_. Create one with permission to call Inference Providers.")
        context.progress(None, "Sending the photo to Hugging Face")
        message: dict[str, Any] = {}
        steps: set[str] = set()
        try:
            with _worker(_job(client, context), encoded_photo.data, steps) as messages:
                while not message:
                    client.pause(POLL_INTERVAL)
                    with contextlib.suppress(queue.Empty):
                        message = messages.get_nowait()
                    if "accepted" in steps:
                        context.progress(None, "fal is processing the photo for Hugging Face")
        finally:
            if "sent" in steps:
                client.cost = Cost(None, "unknown")
        if "error" in message:
            raise failure(client, message, accepted="accepted" in steps)
        return ProviderResult(from_data_uri(client, message["image"]))


def _job(client: ServiceClient, context: RequestContext) -> dict[str, Any]:
    """Return the first line of the worker's input."""
    url = service_url(context.settings, "RMBG_HF_URL", "https://huggingface.co")
    parsed = parse(url)
    return {
        "token": client.key,
        "url": url if context.settings.environ.get("RMBG_HF_URL") else None,
        "origins": [f"{parsed.scheme}://{parsed.netloc.decode()}"],
        "hosts": list(HOSTS),
        "seconds": max(client.exchange.remaining, 0.01),
        "limit": client.max_bytes,
        "pixels": context.settings.max_pixels,
    }


@contextlib.contextmanager
def _worker(job: Mapping[str, Any], photo: bytes, steps: set[str]) -> Iterator[queue.Queue[dict[str, Any]]]:
    """Run the worker on `job` for the duration of the block; yields the queue that receives its result.

    Completed steps are added to `steps`.
    """
    process = subprocess.Popen(
        [sys.executable, "-c", _START_COMMAND, str(WORKER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin and process.stdout
    messages: queue.Queue[dict[str, Any]] = queue.Queue()
    reader = threading.Thread(target=_read_messages, args=(process.stdout, messages, steps), daemon=True)
    reader.start()
    try:
        with contextlib.suppress(OSError):  # the worker has exited, which the reader reports
            process.stdin.write(json.dumps(job).encode() + b"\n" + photo)
            process.stdin.close()
        yield messages
    finally:
        process.kill()
        process.wait()
        reader.join(5)  # its last messages determine the charge


def _read_messages(stream: IO[bytes], messages: queue.Queue[dict[str, Any]], steps: set[str]) -> None:
    """Read the messages of the worker until it exits."""
    with stream:
        for line in stream:
            with contextlib.suppress(ValueError):
                message = json.loads(line)
                if "step" in message:
                    steps.add(message["step"])
                else:
                    messages.put(message)
    messages.put({"error": "ended", "text": ""})


def failure(client: ServiceClient, message: Mapping[str, Any], *, accepted: bool) -> ServiceError:
    """Return the error of a worker message; `accepted` is True if the paid request had received its response."""
    kind, status = message["error"], int(message.get("status") or 0)
    detail_text = client.error_detail(message.get("text"))
    if not accepted and 300 <= status < 500:
        client.mark_rejected()
    if status in (401, 403):
        return ServiceError("Hugging Face rejected the token. It needs the permission to call Inference Providers.")
    if status == 402:
        return ServiceError("The Hugging Face account has no credits left for this month. Add credits or use another provider.")
    if status == 429:
        return ServiceError("The rate limit of Hugging Face for this account is exceeded. Try again later.")
    if status in (400, 413, 422):
        return ServiceError(f"Hugging Face rejected the photo{detail_text}")
    if kind == "http":
        return ServiceError(f"Hugging Face failed (HTTP {status}){detail_text}")
    if kind == "timeout":
        return ServiceError("Hugging Face did not respond in time. Try again later.")
    if kind == "connection":
        return ServiceError("The connection to Hugging Face failed. Try again later.")
    if kind == "host":
        return ServiceError(f"Hugging Face returned a URL that is not allowed{detail_text}")
    if kind == "ended":
        return ServiceError("The Hugging Face client exited without a result.")
    return ServiceError(f"The response of Hugging Face has no result{detail_text}")
