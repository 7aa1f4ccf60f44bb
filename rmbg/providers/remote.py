"""What all remote providers share: a picture goes out, money is accounted for, alpha comes back.

A provider of its own file says how its service is asked (`Remote.ask`) and what that costs; everything about keys, the ledger,
results and what an error says about money is here.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
from PIL import Image

from rmbg import http, keys, ledger, prices
from rmbg.cutout import Cost, Cutout, dollars, finish
from rmbg.errors import InputError, NoSubjectError, OptionError, PhotoError, RmbgError, ServiceError
from rmbg.fetch import fetch
from rmbg.http import Session
from rmbg.matte import upsample_guided
from rmbg.network import Trip
from rmbg.photo import Photo, open_photo
from rmbg.providers.base import READY, Call, Provider, Status
from rmbg.settings import Settings

#: A photo of more pixels than this is sent as JPEG: the networks behind the services look at a million of them, and only
#: alpha is taken from their answers, so nothing of the photo is lost.
LOSSLESS_PIXELS = 1_500_000

#: How often the download of a result is tried.
DOWNLOADS = 3


@dataclass(frozen=True)
class Sent:
    """A photo as it is sent."""

    data: bytes
    mime: str

    @property
    def data_uri(self) -> str:
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode()}"


@dataclass(frozen=True)
class Reply:
    """What a service made of a photo.

    Attributes
    ----------
    image : bytes
        The file.
    mask : bool
        Whether its grey levels are the matte; otherwise its alpha is.
    floor : int
        Alpha of what was taken away, where the service was asked to lay a translucent colour under it.
    own_alpha : bool
        Whether the photo's own alpha is in it already.
    """

    image: bytes
    mask: bool = False
    floor: int = 0
    own_alpha: bool = False


class Remote(Provider):
    """A service that takes a photo and gives back alpha."""

    #: What to call the service in messages.
    service: str

    def status(self, settings: Settings) -> Status:
        if keys.available(self.info.key_name, settings):
            return READY
        return Status("key", "needs a key")

    def expected(self, options: Mapping[str, Any], settings: Settings) -> Cost:
        """What one picture should cost, before it is sent."""
        price = prices.PRICES[self.info.id]
        return Cost(price.usd, price.basis)

    def counted(self, options: Mapping[str, Any], settings: Settings) -> Decimal:
        """What one picture counts against the budget as long as nobody says what it took."""
        usd = self.expected(options, settings).usd
        return prices.PRICES[self.info.id].counted if usd is None else usd

    def check(self, options: Mapping[str, Any]) -> None:
        """OptionError if options that are fine one by one make no sense together."""

    def prepare(self, photo: Photo, options: Mapping[str, Any]) -> Sent:
        """The photo as it is sent."""
        return encoded(photo)

    @abstractmethod
    def ask(self, session: Session, sent: Sent, options: Mapping[str, Any], call: Call) -> Reply:
        """The service's reply to one photo; sets ``session.cost`` to what it took."""

    def cut(self, photo: Photo, options: Mapping[str, Any], call: Call) -> Cutout:
        started = time.perf_counter()
        self.check(options)
        call.check()
        call.progress(None, "Preparing the photo")
        sent = self.prepare(photo, options)
        # No result is larger than its pixels uncompressed, here in base64.
        limit = max(call.settings.max_bytes, 4 * photo.width * photo.height) * 3 // 2
        counted = self.counted(options, call.settings)
        with paid(self.info.id, self.service, self.info.key_name, counted, limit, call) as session:
            reply = self.ask(session, sent, options, call)
            matte, notes = matte_of(reply, photo, self.service, call.settings)
        call.progress(None, "Cleaning the colours of the edge")
        whole = dataclasses.replace(photo, alpha=None) if reply.own_alpha else photo
        matte, foreground = finish(whole, matte)
        return Cutout(
            photo=photo,
            matte=matte,
            foreground=foreground,
            provider=self.info.id,
            seconds=time.perf_counter() - started,
            cost=session.cost or Cost(None, "unknown"),
            notes=photo.notes + notes,
        )


@contextlib.contextmanager
def paid(provider: str, service: str, key_name: str, counted: Decimal, limit: int, call: Call) -> Iterator[Session]:
    """A session with a service that is paid: found key, line in the ledger, and errors that say what became of the money.

    `counted` is what the call counts until its cost is known, `limit` how many bytes an answer may have.

    Raises
    ------
    NotReadyError
        There is no key, or the budget does not allow it. Nothing has left then.
    """
    settings = call.settings
    key = keys.find(key_name, service, call.key, settings)
    trip = Trip(settings.remote_seconds, call.cancelled, guarded=False)
    book = ledger.of(settings)
    session = Session(service, trip, key=key.value, max_bytes=limit)
    number = book.begin(provider, counted, owners=key.owners, budget=settings.daily_budget_usd)
    try:
        with session:
            yield session
    except RmbgError as error:
        raise _told(error, session, counted) from None
    finally:
        # If the ledger cannot be written any more, the line stays pending and counts; the result is not thrown away for that.
        with contextlib.suppress(RmbgError):
            book.settle(number, session.cost)


def _told(error: RmbgError, session: Session, counted: Decimal) -> RmbgError:
    """The error with a sentence on what became of the money."""
    cost = session.cost
    if cost is None:
        money = "Nothing was charged."
    elif cost.usd is None:
        money = f"You may have been charged {dollars(counted)}."
    else:
        money = f"It cost {dollars(cost.usd)} all the same."
    text = f"{error} {money}"
    told: RmbgError
    if isinstance(error, ServiceError):
        told = ServiceError(text, error.fault)
    elif isinstance(error, InputError) and not isinstance(error, OptionError):  # an address that the service gave
        told = ServiceError(text)
    else:
        told = type(error)(text)
    told.cost = cost
    return told


def encoded(photo: Photo, *, keep_alpha: bool = False) -> Sent:
    """The photo as a file: its own transparency over white, unless that is to be kept."""
    out = io.BytesIO()
    if keep_alpha and photo.alpha is not None:
        Image.fromarray(np.dstack([photo.rgb, photo.alpha])).save(out, "PNG", compress_level=4)
        return Sent(out.getvalue(), "image/png")
    image = Image.fromarray(photo.flattened())
    if photo.width * photo.height <= LOSSLESS_PIXELS:
        image.save(out, "PNG", compress_level=4)
        return Sent(out.getvalue(), "image/png")
    image.save(out, "JPEG", quality=95, subsampling=0)
    return Sent(out.getvalue(), "image/jpeg")


def download(session: Session, url: Any, hosts: tuple[str, ...], settings: Settings) -> bytes:
    """The file at an address that a service gave, if it may be fetched from there; no key goes along.

    `hosts` are those of the service; the owner's ``RMBG_RESULT_HOSTS`` are added.
    """
    for attempt in range(1, DOWNLOADS + 1):
        try:
            return fetch(
                str(url),
                max_bytes=session.max_bytes,
                hosts=hosts + settings.result_hosts,
                loopback_hosts=settings.result_hosts,
                deadline=max(session.trip.left, 0.01),
                cancelled=session.trip.cancelled,
            )
        except (ServiceError, InputError) as error:
            # The result is paid for and fetching it is not, so a connection that fails is tried again.
            if attempt == DOWNLOADS or isinstance(error, InputError):
                raise ServiceError(f"The result of {session.name} could not be fetched: {error}") from None
            session.pause(http.BACKOFF * attempt)
    raise AssertionError("the last attempt returns or raises")


def from_data_uri(session: Session, text: Any) -> bytes:
    """The bytes of a data URI or of bare base64."""
    try:
        return base64.b64decode(str(text).partition(",")[2] or str(text), validate=True)
    except ValueError:
        raise ServiceError(f"{session.name} sent a result that is broken off or garbled.") from None


def opened(data: bytes, service: str, settings: Settings) -> Photo:
    """A result through the same door as uploads, whose limits on pixels hold for it too."""
    try:
        return open_photo(data, name="it", settings=dataclasses.replace(settings, max_bytes=max(len(data), settings.max_bytes)))
    except PhotoError as error:
        reason = str(error).partition(";")[0].rstrip(".")
        raise ServiceError(f"The result of {service} cannot be used: {reason}.") from None


def matte_of(reply: Reply, photo: Photo, service: str, settings: Settings) -> tuple[np.ndarray, tuple[str, ...]]:
    """The matte in a reply at the photo's size, and what the user should know about it.

    Raises
    ------
    ServiceError
        It is no usable picture, or one that is opaque everywhere.
    NoSubjectError
        All of it is transparent.
    """
    result = opened(reply.image, service, settings)
    grey = result.rgb[..., 0] if reply.mask else result.alpha
    if grey is None or grey.min() == 255:
        raise ServiceError(f"{service} sent a picture without transparency: there is nothing in it to cut out by.")
    matte = grey.astype(np.float32) / np.float32(255)
    if reply.floor:
        floor = np.float32(reply.floor / 255)
        matte = np.clip((matte - floor) / (1 - floor), 0, 1)
    if float(matte.max()) < 0.02:
        raise NoSubjectError(f"{service} found nothing in the photo to cut out.")
    if matte.shape == photo.rgb.shape[:2]:
        return matte, ()
    note = f"{service} sent {result.width} x {result.height} pixels; the matte was brought to the photo's size."
    if matte.size < photo.width * photo.height:
        return upsample_guided(matte, photo.flattened()), (note,)
    image = Image.fromarray(matte).resize((photo.width, photo.height), Image.Resampling.BOX)
    return np.clip(np.asarray(image), 0, 1), (note,)
