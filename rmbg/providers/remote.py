"""Base class of remote providers, the record of paid calls, and errors that have the same meaning at all services."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from rmbg.billing import api_keys, ledger, recovery
from rmbg.billing.cost import Cost, dollars
from rmbg.billing.quote import PRICES, Price, price_of, quote
from rmbg.cutout import Cutout
from rmbg.errors import InputError, NoSubjectError, OptionError, PhotoError, RmbgError, ServiceError
from rmbg.images.photo import Photo, open_photo
from rmbg.matting.foreground import finish
from rmbg.matting.matte import resample
from rmbg.net.client import RESULT_ATTEMPTS, Response, ServiceClient, backoff, retry_hint, service_url
from rmbg.net.download import TemporaryError, fetch
from rmbg.net.exchange import DeadlineError, Exchange, UnreachableError
from rmbg.providers.base import READY, Provider, ProviderInfo, RequestContext, Status
from rmbg.runtime.messages import Message, joined
from rmbg.settings import Settings

#: Photos with more pixels are sent as JPEG. The networks of the services have inputs of about one megapixel, and only alpha is
#: used of their results, so the compression does not affect the cutout.
LOSSLESS_PIXELS = 1_500_000

#: Attempts to download a result that its host rejects; a file may become available with a delay.
REFUSED_ATTEMPTS = 3


def service_info(id: str, **fields: Any) -> ProviderInfo:
    """Return the `ProviderInfo` of a service with these fields and the price of the price list."""
    return ProviderInfo(id=id, kind="remote", price=PRICES[id], **fields)


#: Messages of error responses by status, or by its first digit.
ERROR_TEXTS = {
    **dict.fromkeys((401, 403), "{service} rejected the API key. Check it at {account}."),
    402: "The {service} account of this API key has no credits left. Add credits at {account}.",
    429: "The rate limit of {service} for this API key is exceeded; {hint}.",
    3: "{service} redirected the request. Redirects are not followed, as photo and key would be sent to another URL.",
    4: "{service} rejected the photo or the options{detail}",
    5: "{service} failed ({code}){detail}",
}


#: Statuses by words in error codes, which services combine with various HTTP statuses.
STATUSES = {"apikey": 401, "credit": 402, "balance": 402, "quota": 402, "ratelimit": 429}

#: Prefixes of error codes of invalid requests.
INVALID = ("invalid", "missing", "unsupported")


def http_failure(
    client: ServiceClient, response: Response, detail: Any = "", texts: Mapping[int, str] = {}, *, code: Any = ""
) -> ServiceError:
    """Return the error of a response with an error status.

    Parameters
    ----------
    client : ServiceClient
    response : Response
    detail : Any
        Explanation in the response.
    texts : mapping of int to str
        Messages of the service, which take precedence over `ERROR_TEXTS`.
    code : Any
        Error code in the response.
    """
    texts, status, lower = {**ERROR_TEXTS, **texts}, response.status, str(code).lower()
    status = next((status for word, status in STATUSES.items() if word in lower), 400 if lower.startswith(INVALID) else status)
    text = texts.get(status) or texts[status // 100 if 300 <= status < 500 else 5]
    name = "" if str(code).isdigit() else client.sanitize(code, 40)
    reason = ", ".join(filter(None, ["" if response.ok else f"HTTP {response.status}", name]))
    values = {"hint": retry_hint(response), "detail": client.error_detail(detail), "account": client.account}
    return ServiceError(Message(text, service=client.name, code=reason, **values))


class PaidCall(ServiceClient):
    """Client of one paid call, which is reserved in the ledger at the start of a ``with`` block and settled at its end.

    The ledger reserves more than the quoted price if the service has charged more before.

    Parameters
    ----------
    info : ProviderInfo
    service : str
        Name of the service in messages.
    options : mapping
        Validated options of the call.
    context : RequestContext
    max_bytes : int
        Limit for the size of a response.
    account : str
        Address of the pages about keys and credits, in messages.

    Raises
    ------
    NotReadyError
        If there is no key, the budget is exhausted, or the ledger cannot be written. No request has been sent.
    RmbgError
        For an error of the block; its message ends with a sentence on the charge.
    """

    def __init__(
        self,
        info: ProviderInfo,
        service: str,
        options: Mapping[str, Any],
        context: RequestContext,
        max_bytes: int,
        account: str = "",
    ) -> None:
        self.info, self.options, self.context, self.settings = info, options, context, context.settings
        self._key = api_keys.find(info.key_name, service, context.key, self.settings)
        exchange = Exchange(self.settings.remote_seconds, context.cancelled, guarded=False)
        super().__init__(service, exchange, key=self._key.value, max_bytes=max_bytes, account=account)

    def __enter__(self) -> PaidCall:
        price = quote(self.info, self.options, self.settings)
        self._entry = ledger.of(self.settings).begin(
            self.info.id,
            price.reserve,
            owners=self._key.owners,
            budget=self.settings.daily_budget_usd,
            images=price.images,
            seconds=self.exchange.remaining,
            wait=self._wait,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        # If the ledger cannot be written, the entry stays pending and counts in full; the result is still returned.
        with contextlib.suppress(RmbgError):
            ledger.of(self.settings).settle(self._entry.id, self.cost)
        super().__exit__(kind, error, traceback)
        if isinstance(error, RmbgError):
            raise self._with_charge(error) from None
        if isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt(f"Stopped. {self._charge()}") from None

    @property
    def price(self) -> Price:
        """Price of the service: the owner's, or that of the price list."""
        price = price_of(self.info, self.settings)
        assert price is not None, "a service has a price"
        return price

    def progress(self, text: str) -> None:
        """Report a step of unknown duration."""
        self.context.progress(None, text)

    def url(self, variable: str, default: str) -> str:
        """Return a base URL of the service, see `service_url`."""
        return service_url(self.settings, variable, default)

    def checked(self, response: Response, failure: Callable[..., RmbgError], **details: Any) -> Response:
        """Return a successful response, or raise the error that `failure` (call, response, **details) returns for it."""
        if not response.ok:
            raise failure(self, response, **details)
        return response

    def _wait(self, seconds: float) -> None:
        self.progress("Waiting for other paid calls: the daily limit is near")
        try:
            self.exchange.sleep(seconds)
        except DeadlineError:
            raise ServiceError(
                "The daily limit for the keys of this server is near, and earlier paid calls did not finish in time. "
                "Nothing was charged. Try again later."
            ) from None

    def _charge(self) -> str:
        """Return a sentence on the charge of a call without a result."""
        if self.cost is None:
            return Message("Nothing was charged.")
        if self.cost.usd is None:
            return Message("You may have been charged {usd}.", usd=dollars(self._entry.reserved))
        return Message("You were charged {usd}.", usd=dollars(self.cost.usd))

    def _with_charge(self, error: RmbgError) -> RmbgError:
        """Return the error with a sentence on the charge appended to its message."""
        # An InputError may be about a URL in a response, which is a fault of the service.
        fault = isinstance(error, (ServiceError, InputError)) and not isinstance(error, OptionError)
        result = (ServiceError if fault else type(error))(joined(str(error), self._charge()))
        result.cost = self.cost
        result.reserved = self._entry.reserved if self.cost is not None and self.cost.usd is None else None
        return result


@dataclass(frozen=True)
class EncodedPhoto:
    """Photo encoded for a request: file contents and MIME type."""

    data: bytes
    mime: str

    @property
    def file(self) -> tuple[str, bytes, str]:
        """Name, contents and MIME type of the file in a form."""
        return "photo." + self.mime.removeprefix("image/"), self.data, self.mime

    @property
    def base64(self) -> str:
        """The file in base64."""
        return base64.b64encode(self.data).decode()

    @property
    def data_uri(self) -> str:
        """The file as a base64 data URI."""
        return f"data:{self.mime};base64,{self.base64}"


@dataclass(frozen=True)
class ProviderResult:
    """Result of a service for one photo.

    Attributes
    ----------
    image : bytes
        Contents of an image file.
    mask : bool
        True if the matte is the gray levels of the image, False if it is its alpha.
    floor : int
        Alpha of removed pixels, 0 to 255; above 0 if the service composed the result over a translucent color.
    own_alpha : bool
        True if the service has already applied the photo's own alpha.
    """

    image: bytes
    mask: bool = False
    floor: int = 0
    own_alpha: bool = False


class Remote(Provider):
    """Base class of providers that upload the photo to a service."""

    #: Name of the service in messages.
    service: str

    #: Address of its pages about keys and credits, in messages.
    account: str = "its website"

    def status(self, settings: Settings) -> Status:
        if api_keys.available(self.info.key_name, settings):
            return READY
        return Status("key", Message("needs a key"))

    def check(self, options: Mapping[str, Any]) -> None:
        """Raise OptionError if options that are valid separately cannot be combined."""

    def prepare(self, photo: Photo, options: Mapping[str, Any]) -> EncodedPhoto:
        """Encode the photo for the request."""
        return encode_photo(photo)

    def check_size(self, photo: Photo, encoded_photo: EncodedPhoto, settings: Settings) -> None:
        """Raise PhotoError if the photo exceeds a size limit of the service."""

    @abstractmethod
    def request_result(self, call: PaidCall, encoded_photo: EncodedPhoto) -> ProviderResult:
        """Send one photo to the service and return its result; sets ``call.cost`` to the amount charged.

        Raises
        ------
        RmbgError
            If there is no result.
        """

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        started = time.perf_counter()
        self.check(options)
        context.check()
        context.progress(None, "Preparing the photo")
        encoded_photo = self.prepare(photo, options)
        self.check_size(photo, encoded_photo, context.settings)
        # A result has at most the size of its uncompressed pixels in base64.
        limit = max(context.settings.max_bytes, 4 * photo.width * photo.height) * 3 // 2
        result: ProviderResult | None = None
        call = PaidCall(self.info, self.service, options, context, limit, self.account)
        try:
            with call:
                result = self.request_result(call, encoded_photo)
                matte, notes = read_matte(result, photo, self.service, context.settings)
            context.progress(None, "Estimating the foreground colors")
            matte, foreground = finish(photo, matte, own_alpha_applied=result.own_alpha)
        except RmbgError:
            raise
        except Exception as error:  # such as MemoryError; the result is paid for and is saved for recovery
            if result is None:
                raise
            cost = call.cost or Cost(None, "unknown")
            raise recovery.keep(error, {f"{photo.name}-{self.info.id}.png": result.image}, cost, context.settings) from error
        return Cutout(
            photo=photo,
            matte=matte,
            foreground=foreground,
            provider=self.info.id,
            seconds=time.perf_counter() - started,
            cost=call.cost or Cost(None, "unknown"),
            notes=photo.notes + notes,
        )


def encode_photo(
    photo: Photo, *, keep_alpha: bool = False, max_side: int | None = None, lossless_pixels: int = LOSSLESS_PIXELS
) -> EncodedPhoto:
    """Encode a photo for a request.

    Parameters
    ----------
    photo : Photo
    keep_alpha : bool
        Send the photo's own transparency, which is flattened on white otherwise.
    max_side : int or None
        Longest side in pixels to which a larger photo is reduced.
    lossless_pixels : int
        Largest number of pixels of a photo that is sent as PNG.
    """
    out = io.BytesIO()
    own_alpha = photo.alpha if keep_alpha else None
    image = Image.fromarray(photo.flattened() if own_alpha is None else np.dstack([photo.rgb, own_alpha]))
    if max_side is not None:
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    if image.mode == "RGBA" or image.width * image.height <= lossless_pixels:
        image.save(out, "PNG", compress_level=4)
        return EncodedPhoto(out.getvalue(), "image/png")
    image.save(out, "JPEG", quality=95, subsampling=0)
    return EncodedPhoto(out.getvalue(), "image/jpeg")


def download(call: PaidCall, url: Any) -> bytes:
    """Download a result from a URL in a response, without the API key.

    Any public https host is allowed, as the result is paid for; those of this machine
    have to be in ``RMBG_RESULT_HOSTS``.

    Raises
    ------
    ServiceError
        If the download fails.
    """
    call.progress(Message("Downloading the result from {service}", service=call.name))
    for attempt in range(1, RESULT_ATTEMPTS + 1):
        try:
            return fetch(
                str(url),
                max_bytes=call.max_bytes,
                loopback_hosts=call.settings.result_hosts,
                deadline=max(call.exchange.remaining, 0.01),
                cancelled=call.exchange.cancelled,
            )
        except (ServiceError, InputError) as error:
            # The result may be paid for, and downloading it again is free.
            attempts = RESULT_ATTEMPTS if isinstance(error, (TemporaryError, UnreachableError)) else REFUSED_ATTEMPTS
            pause = backoff(attempt)
            if attempt >= attempts or isinstance(error, InputError) or pause > call.exchange.remaining:
                raise ServiceError(
                    Message("The result of {service} could not be downloaded: {error}", service=call.name, error=str(error))
                ) from None
            call.pause(pause)
    raise AssertionError("the last attempt returns or raises")


def picture(call: PaidCall, value: Any) -> bytes:
    """Return the file of a picture in a response: base64, a data URI, or a URL from which it is downloaded.

    It may be the value of ``url`` or ``b64_json`` of an object, as in OpenAI's API.

    Raises
    ------
    ServiceError
        If there is none.
    """
    if isinstance(value, dict):
        value = value.get("b64_json") or value.get("url")
    if not isinstance(value, str) or not value:
        raise ServiceError(Message("The response of {service} has no picture.", service=call.name))
    return download(call, value) if value.startswith(("https:", "http:")) else from_data_uri(call, value)


def from_data_uri(client: ServiceClient, text: Any) -> bytes:
    """Decode a data URI or plain base64."""
    try:
        return base64.b64decode(str(text).partition(",")[2] or str(text), validate=True)
    except ValueError:
        raise ServiceError(f"The result of {client.name} is truncated or not valid base64.") from None


def open_result(data: bytes, service: str, settings: Settings) -> Photo:
    """Decode a result under the same pixel limit as uploads; its size in bytes was limited by the download."""
    try:
        return open_photo(data, name="it", settings=dataclasses.replace(settings, max_bytes=max(len(data), settings.max_bytes)))
    except PhotoError as error:
        reason = str(error).partition(". ")[0].rstrip(".")  # without the advice, which is for uploads
        raise ServiceError(f"The result of {service} cannot be used: {reason}.") from None


def no_subject(service: str) -> NoSubjectError:
    """Return the error of a photo in which a service found no subject."""
    return NoSubjectError(Message("{service} found no subject in the photo. Try another provider.", service=service))


def read_matte(result: ProviderResult, photo: Photo, service: str, settings: Settings) -> tuple[np.ndarray, tuple[str, ...]]:
    """Decode the matte of a result and resize it to the size of the photo.

    Returns
    -------
    matte : float32 array (H, W)
        Alpha in [0, 1].
    notes : tuple of str
        Messages to the user.

    Raises
    ------
    ServiceError
        If the result is not a valid image, or opaque everywhere.
    NoSubjectError
        If it is transparent everywhere.
    """
    image = open_result(result.image, service, settings)
    gray = image.rgb[..., 0] if result.mask else image.alpha
    if gray is None or gray.min() == 255:
        raise ServiceError(f"{service} returned a picture without transparency, which cannot be used as a matte.")
    matte = gray.astype(np.float32) / np.float32(255)
    if result.floor:
        floor = np.float32(result.floor / 255)
        matte = np.clip((matte - floor) / (1 - floor), 0, 1)
    if float(matte.max()) < 0.02:
        raise no_subject(service)
    if matte.shape == photo.rgb.shape[:2]:
        return matte, ()
    note = Message(
        "{service} returned {width} x {height} pixels. The matte was resized to the size of the photo.",
        service=service,
        width=image.width,
        height=image.height,
    )
    return resample(matte, photo.height, photo.width), (note,)
