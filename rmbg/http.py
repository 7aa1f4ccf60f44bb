"""Requests to services: as data, sent with patience and deadlines, and never twice if twice could be paid for.

A provider describes a `Request` and reads a `Response`; what lies between is here and the same for all. No key and no
picture gets into a message: `redact` sees every text that a service has a part in.
"""

from __future__ import annotations

import email.utils
import json
import random
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import TracebackType
from typing import Any

import httpcore
import httpx

from rmbg.cutout import Cost
from rmbg.errors import OptionError, ServiceError
from rmbg.fetch import parse
from rmbg.network import DeadlineError, Trip, UnreachableError, client, is_this_machine
from rmbg.settings import Settings

#: How often one request is tried at most, where trying again is harmless.
ATTEMPTS = 4

#: Seconds before the second try; doubled for each further one, with up to as much again added by chance.
BACKOFF = 0.5

#: A service that wants to be left alone for longer than this is reported instead of waited for.
PATIENCE = 30.0

#: Seconds of silence after which a connection counts as dead.
READ_SECONDS = 60.0


@dataclass(frozen=True)
class Request:
    """What is to be sent.

    `pays` says that it may cost money as soon as it has left, `repeatable` that the service knows a repetition when it sees
    one: only then is one that pays sent again after its answer was lost.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: Any = field(default=None, repr=False)
    content: bytes | None = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    files: Mapping[str, tuple[str, bytes, str]] | None = field(default=None, repr=False)
    pays: bool = False
    repeatable: bool = False


@dataclass(frozen=True)
class Response:
    """What came back; the names of headers are in small letters."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON, fractions as Decimal; None if it is none."""
        try:
            return json.loads(self.body, parse_float=Decimal)
        except (ValueError, RecursionError):
            return None


class Session:
    """A conversation with one service about one job, with one deadline and one answer to what became of the money.

    Attributes
    ----------
    name : str
        What to call the service in messages.
    key : str
        The key that pays; it goes into the headers of requests to the service itself and nowhere else.
    cost : Cost or None
        None: nothing can have been charged. ``unknown``: a request that costs money has left, and how that ended is open.
        Otherwise what the service or its price list say. Providers move it on as they read the answers.
    """

    def __init__(self, name: str, trip: Trip, *, key: str = "", max_bytes: int) -> None:
        self.name = name
        self.key = key
        self.trip = trip
        self.max_bytes = max_bytes
        self.cost: Cost | None = None
        self._lost = False
        self._client = client(trip, read_seconds=READ_SECONDS, headers={"User-Agent": "rmbg-studio"})

    def __enter__(self) -> Session:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._client.close()

    def say(self, text: Any, limit: int = 160) -> str:
        """Words of the service, fit to be shown: one line, no markup, no key, no picture, at most `limit` characters."""
        return redact(str(text), (self.key,), limit)

    def said(self, words: Any) -> str:
        """The end of a sentence about the service: a colon and its own words, if there are any, and a full stop."""
        text = self.say(words or "")
        return f": {text}" + ("" if text.endswith((".", "!", "?", "…")) else ".") if text else "."

    def refused(self) -> None:
        """Note that the service did not take the request; of no use if an earlier try may have been taken."""
        if not self._lost:
            self.cost = None

    def send(self, request: Request) -> Response:
        """The answer, whatever its status; tried again where that is harmless.

        Harmless is: no byte had left, or the request does not cost anything, or the service knows a repetition when it sees
        one.

        Raises
        ------
        ServiceError
            There is no answer; `cost` says whether it may have been charged all the same.
        CancelledError
            The user has stopped it.
        """
        harmless = not request.pays or request.repeatable
        for attempt in range(1, ATTEMPTS + 1):
            self.trip.sent = False
            try:
                response = self._once(request)
            except DeadlineError:
                raise ServiceError(f"{self.name} did not answer within {self.trip.seconds:g} seconds.") from None
            except (
                UnreachableError,
                httpcore.TimeoutException,
                httpcore.NetworkError,
                httpcore.ProtocolError,
                httpx.DecodingError,
            ) as error:
                self._lost |= request.pays and self.trip.sent
                if attempt == ATTEMPTS or (self.trip.sent and not harmless):
                    raise ServiceError(*self._broken(error)) from None
                self.pause(_backoff(attempt))
                continue
            finally:
                if request.pays and self.trip.sent:
                    self.cost = Cost(None, "unknown")
            again = harmless and response.status in (429, 502, 503, 504)
            pause = retry_after(response.headers.get("retry-after"), time.time())
            if not again or attempt == ATTEMPTS or (pause or 0) > min(PATIENCE, self.trip.left):
                return response
            if request.pays and response.status == 429:
                self.refused()
            elif request.pays:
                self._lost = True
            self.pause(_backoff(attempt) if pause is None else pause)
        raise AssertionError("the last attempt returns or raises")

    def aside(self, seconds: float) -> Session:
        """A conversation with the same service beside this one, which does not end with it: for cancelling, say."""
        return Session(self.name, Trip(seconds, guarded=self.trip.guarded), key=self.key, max_bytes=1_000_000)

    def pause(self, seconds: float) -> None:
        """Wait between two questions, as long as there is time and the user does not stop it."""
        try:
            self.trip.sleep(seconds)
        except DeadlineError:
            raise ServiceError(f"{self.name} did not answer within {self.trip.seconds:g} seconds.") from None

    def _broken(self, error: Exception) -> tuple[str, Any]:
        if isinstance(error, UnreachableError):
            return f"{self.name} cannot be reached: {error}", "connection"
        if isinstance(error, httpcore.TimeoutException):
            return f"{self.name} stopped answering.", "service"
        return f"The connection to {self.name} broke off before its answer had arrived.", "connection"

    def _once(self, request: Request) -> Response:
        body: dict[str, Any] = {}
        if request.json is not None:
            body["json"] = request.json
        if request.content is not None:
            body["content"] = request.content
        if request.files is not None:
            body |= {"files": dict(request.files), "data": dict(request.form or {})}
        with self._client.stream(request.method, request.url, headers=dict(request.headers), **body) as response:
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > self.max_bytes:
                    raise ServiceError(f"{self.name} sent more than {self.max_bytes / 1e6:.0f} MB, which no result has.")
            return Response(response.status_code, {k.lower(): v for k, v in response.headers.items()}, bytes(data))


def _backoff(attempt: int) -> float:
    # Chance keeps many clients that failed together from coming back together.
    return BACKOFF * 2 ** (attempt - 1) * (1 + random.random())


def retry_after(value: str | None, now: float) -> float | None:
    """Seconds to wait by a Retry-After header, which holds seconds or a date; None if it holds neither."""
    text = (value or "").strip()
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def later(response: Response) -> str:
    """When to try again, as words: what the service says, if it says so."""
    seconds = retry_after(response.headers.get("retry-after"), time.time())
    if seconds is None or seconds > 86_400:
        return "try again later"
    return f"try again in {seconds / 60:.0f} minutes" if seconds > 120 else f"try again in {max(1, round(seconds))} s"


def redact(text: str, secrets: Iterable[str] = (), limit: int = 160) -> str:
    """`text` on one line, without markup, keys, data URIs and long runs of base64, cut to `limit` characters."""
    for secret in secrets:
        # fal's keys are two halves with a colon between; either is a secret, and both are in the whole.
        for part in (secret, *secret.split(":")):
            if len(part) >= 4:
                text = text.replace(part, "[key]")
    text = re.sub(r"data:[\w/+.-]*[;,][^\s\"'<>]*", "[picture]", text, flags=re.IGNORECASE)
    text = re.sub(r"[A-Za-z0-9+/_=-]{64,}", "[data]", text)
    text = text[: 20 * limit]  # looking for tags that do not end takes the square of the length
    text = re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>", " ", text)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def address(settings: Settings, variable: str, default: str) -> str:
    """The address of a service: that of the environment variable if it is set, without a slash at its end.

    Raises
    ------
    OptionError
        If it is no address, or keys would go over an open line to another machine.
    """
    text = settings.environ.get(variable, "").strip() or default
    try:
        url = parse(text)
    except ValueError:
        raise OptionError(f"{variable} is no web address; it must look like {default}.") from None
    if url.scheme != "https" and not is_this_machine(url.host):
        raise OptionError(f"{variable} is not secure: keys and photos are sent over https only.")
    return text.rstrip("/")
