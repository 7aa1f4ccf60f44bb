"""fal's job queue: submission, polling, results, cancellation and errors.

Each job has its own URLs. Its result can be fetched repeatedly, and it can be cancelled. Submission is not idempotent, so a
job is submitted once.

https://fal.ai/docs/model-apis/model-endpoints/queue
"""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rmbg.billing.cost import Cost
from rmbg.errors import RmbgError, ServiceError
from rmbg.net.client import Request, Response, ServiceClient
from rmbg.providers.base import RequestContext
from rmbg.providers.http_errors import http_failure

#: First and longest interval between two polls of a job, in seconds.
POLL_INTERVAL, MAX_POLL_INTERVAL = 0.25, 2.0

#: Prefixes of ``error_type`` for failures of an accepted job on fal's side; these are not billed. Other errors of a result
#: request, such as an invalid key or the rate limit, do not concern the job.
JOB_FAILURES = (
    "internal_",
    "generation_timeout",
    "downstream_service_",
    "request_timeout",
    "startup_timeout",
    "runner_",
    "client_",
)

#: Deadline of a cancellation request, in seconds.
CANCEL_SECONDS = 4.0


@dataclass(frozen=True)
class Job:
    """URLs of a submitted job."""

    status: str
    result: str
    cancel: str

    @property
    def handle(self) -> str:
        """The URLs as one string, the input of `resumed_job`."""
        return " ".join((self.status, self.result, self.cancel))


@dataclass(frozen=True)
class JobState:
    """State of a job: True when it is complete, and a progress message."""

    done: bool
    text: str


def parse_job(client: ServiceClient, response: Response, queue: str) -> Job:
    """Read the job from the response to its submission.

    The API key is sent to its URLs, so they must lie below the URL of the queue.
    """
    body = response.json()
    names = ("status_url", "response_url", "cancel_url")
    urls = [str(body[name]) for name in names if body.get(name)] if isinstance(body, dict) else []
    if len(urls) != len(names):
        raise ServiceError("fal accepted the photo, but its response has no job.")
    for url in urls:
        if not url.startswith(queue + "/") or ".." in url:
            host = client.sanitize(urllib.parse.urlsplit(url).hostname or "an unknown host", 60)
            raise ServiceError(f"fal returned a URL outside its queue, on {host}; the key is not sent there.")
    return Job(*urls)


def resumed_job(client: ServiceClient, context: RequestContext, queue: str) -> Job | None:
    """Return the job that an earlier process has submitted; None if there is none with URLs below that of the queue."""
    urls = context.job.handle.split(" ") if context.job else []
    if len(urls) != 3 or not all(url.startswith(queue + "/") and ".." not in url for url in urls):
        return None
    client.cost = Cost(None, "unknown")
    return Job(*urls)


def parse_state(client: ServiceClient, response: Response) -> JobState:
    """Read the state of a job from a status response."""
    body = response.json()
    status = body.get("status") if isinstance(body, dict) else None
    if status == "COMPLETED":  # also for failed jobs, whose error is in the result
        return JobState(True, "")
    if status == "IN_QUEUE":
        position = body.get("queue_position")
        return JobState(False, f"Waiting in fal's queue, {position} jobs ahead" if position else "Next in fal's queue")
    if status == "IN_PROGRESS":
        logs = body.get("logs") or []
        messages = (
            [str(entry.get("message", "")) for entry in logs if isinstance(entry, dict)] if isinstance(logs, list) else []
        )
        return JobState(
            False,
            f"fal is processing the photo: {client.sanitize(messages[-1], 80)}" if messages else "fal is processing the photo",
        )
    raise ServiceError(f"fal returned an unknown job status: {client.sanitize(status or 'none', 40)}.")


def wait(client: ServiceClient, job: Job, headers: Mapping[str, str], context: RequestContext) -> None:
    """Poll a job until it is complete."""
    interval = POLL_INTERVAL
    while True:
        response = client.fetch_result(Request("GET", f"{job.status}?logs=true", headers))
        if not response.ok:
            raise failure(client, response, step="status")
        state = parse_state(client, response)
        if state.done:
            return
        context.progress(None, state.text)
        client.pause(interval)
        interval = min(interval * 1.4, MAX_POLL_INTERVAL)


def fetch_job_result(client: ServiceClient, job: Job, headers: Mapping[str, str]) -> Response:
    """Fetch the result of a complete job; retried unless the error is the outcome of the job itself."""
    response = client.fetch_result(
        Request("GET", job.result, headers), lambda response: _detail(response.json())[1].startswith(JOB_FAILURES)
    )
    if not response.ok:
        raise failure(client, response, step="result")
    return response


@contextlib.contextmanager
def cancel_on_error(client: ServiceClient, job: Job, headers: Mapping[str, str]) -> Iterator[None]:
    """Cancel the job if the block raises, as its result is no longer used."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(RmbgError), client.side_client(CANCEL_SECONDS) as side_client:
            side_client.send(Request("PUT", job.cancel, headers))
        raise


def failure(client: ServiceClient, response: Response, *, step: str) -> ServiceError:
    """Return the error of a response, and mark the call as rejected if it cannot have been charged.

    fal bills successful jobs, may bill invalid inputs (422), and does not bill rejected requests. After an error of a gateway
    the charge is unknown.
    """
    detail, kind = _detail(response.json())
    detail_text = client.error_detail(detail)
    status = response.status
    rejected = step in ("submit", "run") and 300 <= status < 500
    failed = step in ("run", "result") and kind.startswith(JOB_FAILURES)
    if status != 422 and (rejected or failed):
        client.mark_rejected()
    lower = detail.lower()
    if status in (402, 403) and ("balance" in lower or "locked" in lower or status == 402):
        return ServiceError("The fal account of this API key has no balance left. Top it up at fal.ai/dashboard/billing.")
    if status in (401, 403):
        return ServiceError("fal rejected the API key. Check it at fal.ai/dashboard/keys.")
    if status in (422, 429) or 300 <= status < 400:
        return http_failure("fal", response, detail_text)
    if status >= 500:
        return ServiceError(f"fal failed (HTTP {status}{', ' + client.sanitize(kind, 40) if kind else ''}){detail_text}")
    return ServiceError(f"fal rejected the request (HTTP {status}){detail_text}")


def _detail(body: Any) -> tuple[str, str]:
    """Return message and type of an error, without the input that fal may repeat in it."""
    if not isinstance(body, dict):
        return "", ""
    detail, kind = body.get("detail"), str(body.get("error_type") or "")
    if isinstance(detail, list):
        entries = [entry for entry in detail if isinstance(entry, dict)]
        kind = kind or str(next((entry.get("type") for entry in entries), ""))
        return "; ".join(str(entry.get("msg") or entry.get("type") or "") for entry in entries), kind
    return str(detail or ""), kind
