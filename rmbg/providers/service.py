"""Services of ordinary wire formats: a subclass of `Service` is data, and at most one small function.

Most services accept one request with a key and the photo. The picture is in the response, or in that of a job, which is polled
at a URL that the response contains.
"""

from __future__ import annotations

import contextlib
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from rmbg.billing.cost import Cost
from rmbg.billing.quote import quote
from rmbg.errors import RmbgError, ServiceError
from rmbg.images.photo import Photo
from rmbg.net.client import Request, Response, ServiceClient
from rmbg.providers.remote import (
    LOSSLESS_PIXELS,
    EncodedPhoto,
    PaidCall,
    ProviderResult,
    Remote,
    encode_photo,
    http_failure,
    no_subject,
    picture,
)
from rmbg.runtime.messages import Message

#: Names and indices that lead to a value in a JSON response.
Path = tuple[str | int, ...]

#: First and longest interval between two polls of a job, in seconds.
POLL_INTERVAL, MAX_POLL_INTERVAL = 0.25, 2.0

#: Deadline of a cancellation request, in seconds.
CANCEL_SECONDS = 4.0


@dataclass(frozen=True)
class Jobs:
    """Protocol of a service that runs jobs.

    Attributes
    ----------
    url, cancel : Path
        URLs of the state of a job and of its cancellation, in the response to its submission. Without `cancel`, a job cannot be
        cancelled.
    state : Path
        State of the job, in the response of `url`.
    done : str
        State of a job with a result.
    running : tuple of str
        States of a job without an outcome; any other state is a failure.
    interval : float or None
        Seconds between two polls, for a service that limits their rate.
    """

    url: Path
    state: Path
    done: str
    running: tuple[str, ...]
    cancel: Path | None = None
    interval: float | None = None


class Service(Remote):
    """Base class of services with one request for a photo.

    A subclass sets these attributes in addition to those of `Remote`, implements `body`, and overrides another method only
    where the service differs.

    Attributes
    ----------
    base : tuple of (str, str)
        Environment variable of the base URL, and its default.
    path : str
        Path of the request, below the base URL.
    authorization : tuple of (str, str)
        Name and value of the header with the key.
    image : Path
        Picture in the response: base64, a data URI or a URL. Empty if the body of the response is the picture.
    mask : bool
        True if the picture is the matte in gray levels, False if the matte is its alpha.
    code : Path
        Error code in an error response.
    details : tuple of Path
        Explanations in an error response, each a text or an object with ``title`` and ``detail``; the first one is shown.
    texts : mapping of int to str
        Error messages by status, which replace those of `http_failure`.
    no_subject : tuple of str
        Error codes of photos without a subject.
    reports_failures : bool
        True if an error of any status with an explanation is not charged.
    jobs : Jobs or None
        Set if the response to the request may be a job.
    max_side, lossless_pixels : int
        See `encode_photo`.
    alpha_option : str
        Name of the option that sends the photo's own alpha, which the service then applies; empty if there is none.
    """

    base: tuple[str, str]
    path: str
    authorization = ("Authorization", "Bearer {key}")
    image: Path = ()
    mask = False
    code: Path = ("code",)
    details: tuple[Path, ...] = (("message",), ("detail",), ("error",))
    texts: Mapping[int, str] = MappingProxyType({})
    no_subject: tuple[str, ...] = ()
    reports_failures = False
    jobs: Jobs | None = None
    max_side: int | None = None
    lossless_pixels = LOSSLESS_PIXELS
    alpha_option = ""

    def prepare(self, photo: Photo, options: Mapping[str, Any]) -> EncodedPhoto:
        keep_alpha = options.get(self.alpha_option, False)
        return encode_photo(photo, keep_alpha=keep_alpha, max_side=self.max_side, lossless_pixels=self.lossless_pixels)

    @abstractmethod
    def body(self, encoded_photo: EncodedPhoto, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of the request for one photo, as arguments of `Request`: ``json``, or ``form`` and ``files``."""

    def request_result(self, call: PaidCall, encoded_photo: EncodedPhoto) -> ProviderResult:
        base, (name, value) = call.url(*self.base), self.authorization
        headers = {name: value.format(key=call.key), "Accept": "application/json" if self.image else "image/png"}
        self.before(call, base, headers)

        def post() -> Response:
            call.progress(Message("Sending the photo to {service}", service=call.name))
            body = self.body(encoded_photo, call.options)
            request = Request("POST", base + self.path, headers, pays=True, free_if_busy=True, **body)
            return call.checked(call.send(request), self.failure)

        response = self._run_job(call, base, headers, post, self.jobs) if self.jobs else post()
        call.cost = self.cost(call, response)
        image = picture(call, response.json(*self.image)) if self.image else response.body
        own_alpha = call.options.get(self.alpha_option, False)
        return ProviderResult(image, mask=self.is_mask(call, image), own_alpha=own_alpha)

    def before(self, call: PaidCall, base: str, headers: Mapping[str, str]) -> None:
        """Send free requests that have to precede the paid one."""

    def is_mask(self, call: PaidCall, image: bytes) -> bool:
        """True if the picture is the matte in gray levels; by default the attribute `mask`."""
        return self.mask

    def cost(self, call: PaidCall, response: Response) -> Cost:
        """Return the cost of a result; by default the listed price, for services that do not report it."""
        return quote(self.info, call.options, call.settings).cost

    def failure(self, client: ServiceClient, response: Response, *, step: str = "submit") -> RmbgError:
        """Return the error of a response, and mark the call as rejected if it cannot have been charged.

        After an error of a gateway in front of the service, the charge is unknown.
        """
        code, detail = str(response.json(*self.code) or ""), self._explanation(response)
        if step == "submit" and (300 <= response.status < 500 or (self.reports_failures and bool(code or detail))):
            client.mark_rejected()
        if code in self.no_subject:
            return no_subject(client.name)
        return http_failure(client, response, detail, self.texts, code=code)

    def _explanation(self, response: Response) -> str:
        for value in (response.json(*path) for path in self.details):
            if isinstance(value, dict):
                value = " ".join(str(value[name]) for name in ("title", "detail") if value.get(name))
            if isinstance(value, str) and value:
                return value
        return ""

    def _run_job(
        self, call: PaidCall, base: str, headers: Mapping[str, str], post: Callable[[], Response], jobs: Jobs
    ) -> Response:
        def complete(response: Response) -> bool:
            state = response.json(*jobs.state)
            if state not in (jobs.done, *jobs.running):
                detail = call.error_detail(self._explanation(response))
                raise ServiceError(Message("{service} could not process the photo{detail}", service=call.name, detail=detail))
            if state != jobs.done:
                call.progress(Message("{service} is processing the photo", service=call.name))
            return bool(state == jobs.done)

        paths = (jobs.url, jobs.cancel) if jobs.cancel else (jobs.url,)
        urls = saved_urls(call, base, len(paths))
        if not urls:
            response = post()
            if response.json(*self.image):
                return response
            urls = job_urls(call, base, response, paths)
        stop = Request("POST", urls[1], headers) if jobs.cancel else None
        return poll(call, Request("GET", urls[0], headers), complete, self.failure, stop, interval=jobs.interval)


def saved_urls(call: PaidCall, base: str, count: int) -> list[str]:
    """Return the `count` URLs of the job that an earlier process has submitted; an empty list if there is none."""
    urls = call.context.job.handle.split(" ") if call.context.job else []
    if len(urls) != count or not all(_is_below(url, base) for url in urls):
        return []
    call.cost = Cost(None, "unknown")
    return urls


def job_urls(call: PaidCall, base: str, response: Response, paths: tuple[Path, ...]) -> list[str]:
    """Return the URLs of a job at `paths` in the response to its submission, and store them as its handle.

    Raises
    ------
    ServiceError
        If they are missing, or not below the base URL, as the key is sent to them.
    """
    urls = [str(response.json(*path) or "") for path in paths]
    if not all(urls):
        raise ServiceError(Message("{service} accepted the photo, but its response has no job.", service=call.name))
    foreign = next((url for url in urls if not _is_below(url, base)), None)
    if foreign is not None:
        host = call.sanitize(foreign.partition("://")[2].partition("/")[0] or "an unknown host", 60)
        text = "{service} returned the URL of a job on {host}, which is not its own; the key is not sent there."
        raise ServiceError(Message(text, service=call.name, host=host))
    if call.context.job:
        call.context.job.keep(" ".join(urls))
    return urls


def _is_below(url: str, base: str) -> bool:
    return url.startswith(base + "/") and ".." not in url and " " not in url


def poll(
    call: PaidCall,
    request: Request,
    complete: Callable[[Response], bool],
    failure: Callable[..., RmbgError],
    cancel: Request | None = None,
    *,
    interval: float | None = None,
) -> Response:
    """Repeat a request for the state of a job until `complete` returns True for its response; cancel the job if that fails.

    The pauses between two polls grow from `interval` seconds, by default `POLL_INTERVAL`, to `MAX_POLL_INTERVAL` or `interval`.
    """
    interval = interval or POLL_INTERVAL
    limit = max(MAX_POLL_INTERVAL, interval)
    try:
        while not complete(response := call.checked(call.fetch_result(request), failure, step="status")):
            call.pause(interval)
            interval = min(interval * 1.4, limit)
        return response
    except BaseException:  # the result is no longer used
        if cancel is not None:
            with contextlib.suppress(RmbgError), call.side_client(CANCEL_SECONDS) as side_client:
                side_client.send(cancel)
        raise
