"""Responses of Runware: result, error and cost of one task.

A response may hold data and errors of several tasks.

https://runware.ai/docs/platform/errors, https://runware.ai/docs/platform/task-polling
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rmbg.billing.cost import Cost
from rmbg.billing.prices import amount
from rmbg.errors import ServiceError
from rmbg.message import Message
from rmbg.net.client import Response, ServiceClient
from rmbg.providers.http_errors import redirect_failure


@dataclass(frozen=True)
class TaskState:
    """State of a task.

    Attributes
    ----------
    item : mapping or None
        Result; None until the task is complete.
    known : bool
        False if the response does not mention the task.
    conflict : bool
        True if a task with this UUID had been accepted before.
    """

    item: Mapping[str, Any] | None = None
    known: bool = True
    conflict: bool = False


def read_response(client: ServiceClient, response: Response, task_id: str, *, accepted: bool) -> TaskState:
    """Read the state of task `task_id` from a response.

    A response of any HTTP status may have both data and errors. Items are identified by their UUID, as their type differs
    between the documentation and its examples.

    Parameters
    ----------
    client : ServiceClient
    response : Response
    task_id : str
    accepted : bool
        True if an earlier response has shown that Runware accepted the task.

    Raises
    ------
    ServiceError
        If the task failed or the response is invalid. ``client.cost`` is None if the task cannot have been charged.
    """
    body = response.json()
    if not isinstance(body, dict):
        raise failure(client, response.status, {}, accepted=accepted)
    if isinstance(body.get("error"), dict):  # some failures have a single error instead of a list
        raise failure(client, response.status, body["error"], accepted=accepted)
    state = outcome(client, body, response.status, task_id, accepted=accepted)
    if not response.ok and state.item is None and not state.conflict:
        raise failure(client, response.status, {}, accepted=accepted)
    return state


def outcome(client: ServiceClient, body: Mapping[str, Any], status: int, task_id: str, *, accepted: bool) -> TaskState:
    """Return the state of task `task_id` from the data and errors of a response body."""
    errors = [error for error in _items(body, "errors") if error.get("taskUUID") in (task_id, None)]
    data = [item for item in _items(body, "data") if item.get("taskUUID") == task_id]
    for item in data:  # before the errors, as an existing result is paid for
        if isinstance(item.get("response"), dict):  # an archive item, which contains the original response
            return outcome(client, item["response"], status, task_id, accepted=accepted)
        if any(item.get(name) for name in ("imageURL", "imageBase64Data", "imageDataURI")):
            return TaskState(item)
    if any(error.get("code") == "conflictTaskUUID" for error in errors):
        return TaskState(conflict=True)
    if errors:
        raise failure(client, status, errors[0], accepted=accepted)
    return TaskState(known=bool(data))


def failure(client: ServiceClient, status: int, error: Mapping[str, Any], *, accepted: bool) -> ServiceError:
    """Return the error of a task, and mark the call as rejected if it cannot have been charged.

    Error codes are an open list, so their prefixes and the HTTP status are evaluated. Rejected requests are not charged. It is
    not documented if a task that failed later is charged.
    """
    code = str(error.get("code") or "")
    lower = code.lower()
    detail_text = client.error_detail(error.get("message"))
    rejected = status in (400, 401, 402, 403, 404, 405, 413, 422, 429) or 300 <= status < 400
    if not accepted and (rejected or lower.startswith(("invalid", "missing", "unsupported"))):
        client.mark_rejected()
    if "apikey" in lower or status in (401, 403):
        return ServiceError("Runware rejected the API key. Check it at my.runware.ai.")
    if status == 402 or any(word in lower for word in ("credit", "balance", "quota")):
        return ServiceError("The Runware account of this API key has no credits left. Add credits at my.runware.ai.")
    if status == 429 or "ratelimit" in lower:
        return ServiceError("The rate limit of Runware for this API key is exceeded. Try again later.")
    if lower.startswith(("invalid", "missing", "unsupported")) or status in (400, 413, 422):
        return ServiceError(
            Message("{service} rejected the photo or the options{detail}", service="Runware", detail=detail_text)
        )
    if 300 <= status < 400:
        return redirect_failure("Runware")
    name = client.sanitize(code, 40) or f"HTTP {status}"
    if status == 200 and not code:
        return ServiceError("The response of Runware has no result.")
    return ServiceError(f"Runware failed ({name}){detail_text}")


def cost_of(item: Mapping[str, Any], options: Mapping[str, Any], listed: Decimal) -> Cost:
    """Return the cost of a result: as reported, unknown if the requested report is missing, otherwise the listed price."""
    cost = amount(item.get("cost"))
    if cost is not None:
        return Cost(cost, "charged")
    return Cost(None, "unknown") if options["includeCost"] else Cost(listed, "listed")


def _items(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    items = body.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
