"""HTTP client for remote services, with retries, a deadline and cost tracking.

A provider builds a `Request` and parses a `Response`; retries are the same for all providers. A request that may be charged is
not repeated unless the service recognizes the repetition. `redact` removes keys and image data from the text of services.
"""

from __future__ import annotations

import email.utils
import functools
import json
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import TracebackType
from typing import Any

from rmbg.billing.cost import Cost
from rmbg.errors import OptionError, ServiceError
from rmbg.net.download import parse
from rmbg.net.exchange import Exchange, UnreachableError, is_this_machine
from rmbg.runtime.messages import Message, megabytes
from rmbg.settings import Settings

#: Maximum number of attempts of a request that is safe to repeat.
ATTEMPTS = 4

#: Seconds before the second attempt, doubled for each further one, plus jitter of up to 100 percent.
BACKOFF = 0.5

#: Upper limit of the backoff in seconds, before jitter.
MAX_BACKOFF = 8.0

#: Maximum number of attempts to fetch the state or the result of a job within the deadline.
RESULT_ATTEMPTS = 16

#: Longest Retry-After in seconds that is honored; beyond it, the response is returned.
MAX_RETRY_AFTER = 120.0

#: Seconds without data after which a read times out.
READ_TIMEOUT = 60.0

_SECONDS = re.compile(r"\d{1,9}(\.\d{1,9})?")


@dataclass(frozen=True)
class Request:
    """HTTP request to a service.

    Attributes
    ----------
    method, url, headers
    json, content, form, files
        Body; `form` is sent together with `files`.
    pays : bool
        True if the request may be charged once it is sent.
    repeatable : bool
        True if the request is idempotent at the service. Only then is a request that `pays` retried after a lost response.
    free_if_busy : bool
        True if the service does not charge for a request with the response 429.
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
    free_if_busy: bool = False


@dataclass(frozen=True)
class Response:
    """HTTP response of a service; header names are in lower case."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @functools.cached_property
    def _document(self) -> Any:
        try:
            return json.loads(self.body, parse_float=Decimal)
        except (ValueError, RecursionError):
            return None

    def json(self, *path: str | int) -> Any:
        """Return the body as JSON, with fractions as Decimal, or the value in it at a path of names and indices.

        The value is None if it is missing or the body is not valid JSON.
        """
        value = self._document
        for step in path:
            try:
                value = value[step]
            except (LookupError, TypeError):
                return None
        return value

    def objects(self, *path: str | int) -> list[dict[str, Any]]:
        """Return the objects of the list at a path in the body; empty if there is no list."""
        value = self.json(*path)
        return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


class ServiceClient:
    """HTTP client for one job at one service, with one deadline and the cost of the job.

    Attributes
    ----------
    name, account : str
        Name of the service, and address of its pages about keys and credits, in messages.
    key : str
        API key, which is sent only in headers of requests to the service itself.
    cost : Cost or None
        None while nothing can have been charged, basis ``unknown`` after a request that `pays` was sent. Providers update it
        from responses or the price list.
    """

    def __init__(self, name: str, exchange: Exchange, *, key: str = "", max_bytes: int, account: str = "") -> None:
        self.name = name
        self.account = account
        self.key = key
        self.exchange = exchange
        exchange.service = name
        self.max_bytes = max_bytes
        self.cost: Cost | None = None
        self._response_lost = False
        from rmbg.net.transport import open_client  # deferred, as httpx takes a tenth of a second to import

        self._client = open_client(exchange, read_seconds=READ_TIMEOUT, headers={"User-Agent": "rmbg-studio"})

    def __enter__(self) -> ServiceClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._client.close()

    def sanitize(self, text: Any, limit: int = 160) -> str:
        """Return text of the service as one line without markup, keys and image data, of at most `limit` characters."""
        return redact(str(text), (self.key,), limit)

    def error_detail(self, detail: Any) -> str:
        """Return the end of an error message: a colon and the sanitized `detail`, if there is any, and a period."""
        text = self.sanitize(detail or "")
        return f": {text}" + ("" if text.endswith((".", "!", "?", "…")) else ".") if text else "."

    def mark_rejected(self) -> None:
        """Reset `cost` after the service rejected the request, unless an earlier attempt may have been accepted."""
        if not self._response_lost:
            self.cost = None

    def send(self, request: Request) -> Response:
        """Send a request and return the response, whatever its status.

        The request is retried only if that cannot cause a second charge: no byte was sent, the request is free or repeatable,
        or the service does not charge for a 429 and its Retry-After header is in seconds.

        Raises
        ------
        ServiceError
            If there is no response. `cost` states the possible charge.
        CancelledError
            If the exchange is cancelled.
        """
        safe_to_retry = not request.pays or request.repeatable

        def temporary(response: Response) -> bool:
            if response.status == 429:
                # Seconds only: with a wrong clock, a date may already have passed.
                seconds = _SECONDS.fullmatch(response.headers.get("retry-after", "").strip())
                return safe_to_retry or (request.free_if_busy and seconds is not None)
            # A 500 of another method can be the outcome of the request.
            return safe_to_retry and (
                response.status in (502, 503, 504) or (request.method == "GET" and response.status >= 500)
            )

        return self._send(request, ATTEMPTS, temporary)

    def fetch_result(self, request: Request, final: Callable[[Response], bool] = lambda response: False) -> Response:
        """Fetch the state or the result of a job that may already be charged.

        The request is free, so it is retried after every 5xx, unless `final` returns True for the response as the final state
        of the job. Retries end at the deadline or after `RESULT_ATTEMPTS` attempts.
        """
        return self._send(
            request,
            RESULT_ATTEMPTS,
            lambda response: response.status == 429 or (response.status >= 500 and not final(response)),
        )

    def _send(self, request: Request, attempts: int, temporary: Callable[[Response], bool]) -> Response:
        import httpcore
        import httpx

        safe_to_retry = not request.pays or request.repeatable
        for attempt in range(1, attempts + 1):
            self.exchange.sent = False
            try:
                response = self._once(request)
            except (
                UnreachableError,
                httpcore.TimeoutException,
                httpcore.NetworkError,
                httpcore.ProtocolError,
                httpx.DecodingError,
            ) as error:
                self._response_lost |= request.pays and self.exchange.sent
                if attempt == attempts or (self.exchange.sent and not safe_to_retry):
                    raise ServiceError(self._connection_error(error)) from None
                self.pause(backoff(attempt))
                continue
            finally:
                if request.pays and self.exchange.sent:
                    self.cost = Cost(None, "unknown")
            requested = retry_after(response.headers.get("retry-after"), time.time())
            pause = backoff(attempt) if requested is None else requested
            if attempt == attempts or not temporary(response) or pause > min(MAX_RETRY_AFTER, self.exchange.remaining):
                return response
            if request.pays and response.status == 429:
                self.mark_rejected()
            elif request.pays:
                self._response_lost = True
            self.pause(pause)
        raise AssertionError("the last attempt returns or raises")

    def side_client(self, seconds: float) -> ServiceClient:
        """Return a client for the same service with its own deadline, for example to cancel the job."""
        return ServiceClient(self.name, Exchange(seconds, guarded=self.exchange.guarded), key=self.key, max_bytes=1_000_000)

    def pause(self, seconds: float) -> None:
        """Wait before the next request; the deadline and cancellation apply."""
        self.exchange.sleep(seconds)

    def _connection_error(self, error: Exception) -> str:
        import httpcore

        if isinstance(error, UnreachableError):
            return Message("{service} cannot be reached: {error}", service=self.name, error=str(error))
        if isinstance(error, httpcore.TimeoutException):
            return Message("{service} stopped responding.", service=self.name)
        return Message("The connection to {service} was lost before the response was complete.", service=self.name)

    def _once(self, request: Request) -> Response:
        with self._client.stream(
            request.method,
            request.url,
            headers=dict(request.headers),
            json=request.json,
            content=request.content,
            data=request.form,
            files=request.files,
        ) as response:
            data = bytearray()
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > self.max_bytes:
                    raise ServiceError(f"{self.name} sent more than {megabytes(self.max_bytes)}, the limit of a response.")
            return Response(response.status_code, {k.lower(): v for k, v in response.headers.items()}, bytes(data))


def backoff(attempt: int) -> float:
    """Seconds to wait after attempt 1, 2, ...: exponential backoff with jitter."""
    return min(MAX_BACKOFF, BACKOFF * 2 ** (attempt - 1)) * (1 + random.random())


def retry_after(value: str | None, now: float) -> float | None:
    """Parse a Retry-After header, in seconds or as a date, into seconds from `now`; None if it is invalid."""
    text = (value or "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def retry_hint(response: Response) -> str:
    """Return advice such as ``try again in 3 s``, from the Retry-After header if there is one."""
    seconds = retry_after(response.headers.get("retry-after"), time.time())
    if seconds is None or seconds > 86_400:
        return Message("try again later")
    if seconds > 120:
        return Message("try again in {minutes} minutes", minutes=round(seconds / 60))
    return Message("try again in {seconds} s", seconds=max(1, round(seconds)))


def redact(text: str, secrets: Iterable[str] = (), limit: int = 160) -> str:
    """Return `text` as one line without markup, keys, data URIs and base64 data, truncated to `limit` characters."""
    for secret in secrets:
        # A fal key consists of two parts with a colon between, and each part is a secret.
        for part in (secret, *secret.split(":")):
            if len(part) >= 4:
                text = text.replace(part, "[key]")
    text = re.sub(r"rmbg_[\w-]{43}", "[key]", text)  # secrets of ``rmbg.billing.client_keys``
    text = re.sub(r"data:[\w/+.-]*[;,][^\s\"'<>]*", "[picture]", text, flags=re.IGNORECASE)
    text = re.sub(r"[A-Za-z0-9+/_=-]{64,}", "[data]", text)
    text = text[: 20 * limit]  # the pattern takes quadratic time on tags that are not closed
    text = re.sub(r"(?is)<(script|style)\b.*?</\1>|<[^>]*>", " ", text)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def service_url(settings: Settings, variable: str, default: str) -> str:
    """Return the base URL of a service, from an environment variable if it is set, without a trailing slash.

    Raises
    ------
    OptionError
        If the URL is invalid, or would send keys to another machine without encryption.
    """
    text = settings.environ.get(variable, "").strip() or default
    try:
        url = parse(text)
    except ValueError:
        raise OptionError(f"{variable} is not a valid web address. Set it to one such as {default}.") from None
    if url.scheme != "https" and not is_this_machine(url.host):
        raise OptionError(f"{variable} is not an https address. Use https, because keys and photos are sent to it.")
    return text.rstrip("/")
