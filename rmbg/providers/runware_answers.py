"""What Runware's answers mean: results, errors and cost of one task among data and errors of many.

https://runware.ai/docs/platform/errors, https://runware.ai/docs/platform/task-polling
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rmbg.cutout import Cost
from rmbg.errors import ServiceError
from rmbg.http import Response, Session
from rmbg.prices import amount


@dataclass(frozen=True)
class Found:
    """What an answer says about a task: its item once it is done, whether it is known, and whether it was there before."""

    item: Mapping[str, Any] | None = None
    known: bool = True
    conflict: bool = False


def read(session: Session, response: Response, number: str, *, taken: bool) -> Found:
    """What an answer says about task `number`; `taken` is whether Runware is known to have it already.

    Data and errors may both be there, on any HTTP status; items are told apart by their UUID and not by their type, which
    differs between the documentation and its examples.

    Raises
    ------
    ServiceError
        The task failed, or the answer is none; ``session.cost`` is None then if nothing can have been charged.
    """
    body = response.json()
    if not isinstance(body, dict):
        raise failure(session, response.status, {}, taken=taken)
    if isinstance(body.get("error"), dict):  # some failures have a shape of their own
        raise failure(session, response.status, body["error"], taken=taken)
    found = outcome(session, body, response.status, number, taken=taken)
    if not response.ok and found.item is None and not found.conflict:
        raise failure(session, response.status, {}, taken=taken)
    return found


def outcome(session: Session, body: Mapping[str, Any], status: int, number: str, *, taken: bool) -> Found:
    """What an envelope of data and errors says about task `number`."""
    errors = [error for error in _items(body, "errors") if error.get("taskUUID") in (number, None)]
    data = [item for item in _items(body, "data") if item.get("taskUUID") == number]
    for item in data:  # before the errors: a result that is there is paid for, whatever else went wrong
        if isinstance(item.get("response"), dict):  # from the archive: the whole first answer once more
            return outcome(session, item["response"], status, number, taken=taken)
        if any(item.get(name) for name in ("imageURL", "imageBase64Data", "imageDataURI")):
            return Found(item)
    if any(error.get("code") == "conflictTaskUUID" for error in errors):
        return Found(conflict=True)
    if errors:
        raise failure(session, status, errors[0], taken=taken)
    return Found(known=bool(data))


def failure(session: Session, status: int, error: Mapping[str, Any], *, taken: bool) -> ServiceError:
    """The error of a task. Codes are an open list, so families of them and the HTTP status decide.

    What is refused at the door costs nothing; whether a task that failed later does is nowhere said.
    """
    code = str(error.get("code") or "")
    lower = code.lower()
    said = session.said(error.get("message"))
    door = status in (400, 401, 402, 403, 404, 405, 413, 422, 429) or 300 <= status < 400
    if not taken and (door or lower.startswith(("invalid", "missing", "unsupported"))):
        session.refused()
    if "apikey" in lower or status in (401, 403):
        return ServiceError("Runware does not accept the key; check it at my.runware.ai.", "user")
    if status == 402 or any(word in lower for word in ("credit", "balance", "quota")):
        return ServiceError("Runware has no credits left for this key; add some at my.runware.ai.", "user")
    if status == 429 or "ratelimit" in lower:
        return ServiceError("Runware has too many requests from this key at the moment; try again later.", "user")
    if lower.startswith(("invalid", "missing", "unsupported")) or status in (400, 413, 422):
        return ServiceError(f"Runware cannot use the photo or the options{said}", "user")
    if 300 <= status < 400:
        return ServiceError("Runware sends on to another address, and neither photo nor key are sent there.")
    name = session.say(code, 40) or f"HTTP {status}"
    if status == 200 and not code:
        return ServiceError("Runware answered with something that is no result.")
    return ServiceError(f"Runware failed ({name}){said}")


def cost_of(item: Mapping[str, Any], options: Mapping[str, Any], listed: Decimal) -> Cost:
    """What Runware took; that it does not say so although it was asked is not a price of nothing."""
    cost = amount(item.get("cost"))
    if cost is not None:
        return Cost(cost, "charged")
    return Cost(None, "unknown") if options["includeCost"] else Cost(listed, "listed")


def _items(body: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    items = body.get(name)
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
