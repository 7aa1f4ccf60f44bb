"""fal's queue: what its answers mean, waiting for a job, and what an error says about the money.

A job has addresses of its own, its result can be fetched again, and it can be cancelled. fal has no way to tell that two
submissions are the same job, so one is never submitted twice.

https://fal.ai/docs/model-apis/model-endpoints/queue
"""

from __future__ import annotations

import contextlib
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rmbg.errors import RmbgError, ServiceError
from rmbg.http import Request, Response, Session, later
from rmbg.providers.base import Call

#: Seconds between two questions after a job: at first, and at most.
POLL, SLOWEST_POLL = 0.25, 2.0

#: What fal calls errors of its own after it took a job; none of them is billed. A result that is refused for another reason,
#: a key or too many requests, says nothing about the job.
FAILURES = (
    "internal_",
    "generation_timeout",
    "downstream_service_",
    "request_timeout",
    "startup_timeout",
    "runner_",
    "client_",
)

#: Seconds that telling fal to stop may take.
CANCEL_SECONDS = 4.0


@dataclass(frozen=True)
class Job:
    """A submitted job; fal says where to ask after it."""

    status: str
    result: str
    cancel: str


@dataclass(frozen=True)
class State:
    """What fal says about a job."""

    done: bool
    text: str


def submitted(session: Session, response: Response, queue: str) -> Job:
    """The job of a submit answer. Its addresses get the key, so they must be where it was sent before."""
    body = response.json()
    names = ("status_url", "response_url", "cancel_url")
    urls = [str(body[name]) for name in names if body.get(name)] if isinstance(body, dict) else []
    if len(urls) != len(names):
        raise ServiceError("fal took the photo and then answered with something else than a job.")
    for url in urls:
        if not url.startswith(queue + "/") or ".." in url:
            host = session.say(urllib.parse.urlsplit(url).hostname or "nowhere", 60)
            raise ServiceError(f"fal points to another place for its answer, on {host}; the key is not sent there.")
    return Job(*urls)


def state_of(session: Session, response: Response) -> State:
    """What a status answer says."""
    body = response.json()
    status = body.get("status") if isinstance(body, dict) else None
    if status == "COMPLETED":  # failed jobs too; only the result tells
        return State(True, "")
    if status == "IN_QUEUE":
        position = body.get("queue_position")
        return State(False, f"Waiting in fal's queue, {position} before it" if position else "Next in fal's queue")
    if status == "IN_PROGRESS":
        logs = body.get("logs") or []
        words = [str(entry.get("message", "")) for entry in logs if isinstance(entry, dict)] if isinstance(logs, list) else []
        return State(False, f"fal is working: {session.say(words[-1], 80)}" if words else "fal is working")
    raise ServiceError(f"fal answered with a status that is none of its own: {session.say(status or 'none', 40)}.")


def wait(session: Session, job: Job, headers: Mapping[str, str], call: Call) -> None:
    """Return when the job is complete."""
    pause = POLL
    while True:
        response = session.send(Request("GET", f"{job.status}?logs=true", headers))
        if not response.ok:
            raise failure(session, response, step="status")
        state = state_of(session, response)
        if state.done:
            return
        call.progress(None, state.text)
        session.pause(pause)
        pause = min(pause * 1.4, SLOWEST_POLL)


@contextlib.contextmanager
def cancelling(session: Session, job: Job, headers: Mapping[str, str]) -> Iterator[None]:
    """Tell fal to stop if nobody waits for the job any more, whatever the reason."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(RmbgError), session.aside(CANCEL_SECONDS) as other:
            other.send(Request("PUT", job.cancel, headers))
        raise


def failure(session: Session, response: Response, *, step: str) -> ServiceError:
    """The error of an answer; settles what can be said about the money.

    fal bills successful outputs only, may bill inputs that it could not use (422), and has billed nothing for what it refuses
    at the door. What a gateway says is no word of fal's: then it stays open.
    """
    detail, kind = _detail(response.json())
    said = session.said(detail)
    status = response.status
    refused = step in ("submit", "run") and 300 <= status < 500
    failed = step in ("run", "result") and kind.startswith(FAILURES)
    if status != 422 and (refused or failed):
        session.refused()
    lower = detail.lower()
    if status in (402, 403) and ("balance" in lower or "locked" in lower or status == 402):
        return ServiceError("fal has no balance left for this key; top it up at fal.ai/dashboard/billing.", "user")
    if status in (401, 403):
        return ServiceError("fal does not accept the key; check it at fal.ai/dashboard/keys.", "user")
    if status == 429:
        return ServiceError(f"fal has too many requests from this key at the moment; {later(response)}.", "user")
    if status == 422:
        return ServiceError(f"fal cannot use the photo or the options{said}", "user")
    if 300 <= status < 400:
        return ServiceError("fal sends on to another address, and neither photo nor key are sent there.")
    if status >= 500:
        return ServiceError(f"fal failed (HTTP {status}{', ' + session.say(kind, 40) if kind else ''}){said}")
    return ServiceError(f"fal refused the request (HTTP {status}){said}")


def _detail(body: Any) -> tuple[str, str]:
    """What went wrong in fal's words, without the input that it may repeat, and its name for it."""
    if not isinstance(body, dict):
        return "", ""
    detail, kind = body.get("detail"), str(body.get("error_type") or "")
    if isinstance(detail, list):
        entries = [entry for entry in detail if isinstance(entry, dict)]
        kind = kind or str(next((entry.get("type") for entry in entries), ""))
        return "; ".join(str(entry.get("msg") or entry.get("type") or "") for entry in entries), kind
    return str(detail or ""), kind
