"""Paid calls of a batch: a spending limit, and cutouts whose calls are recorded before they are sent and never repeated."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from rmbg.batch.manifest import Call, HaltError, Manifest
from rmbg.batch.outputs import Output
from rmbg.batch.plan import MatteCache, Recipe, Task, inference_of
from rmbg.batch.worker import NO_HOOKS, Hooks
from rmbg.billing.cost import Cost, dollars
from rmbg.billing.quote import quote
from rmbg.cutout import Cutout
from rmbg.errors import CancelledError, NotReadyError, OutputError, RmbgError, ServiceError
from rmbg.images.photo import Photo
from rmbg.providers import Provider
from rmbg.providers.base import PaidJob, RequestContext, run_directly
from rmbg.remove import keep_if_paid
from rmbg.runtime.messages import Message
from rmbg.settings import Settings

#: Calls run concurrently while the limit covers all of them at this multiple of their price. Closer to the limit, and until
#: the first price is known, calls are serialized, so that a price increase is recorded before the next call is sent.
HEADROOM = 10

#: Seconds between two checks for cancellation while a call waits for another one.
POLL_INTERVAL = 0.1


class LimitReachedError(NotReadyError):
    """The next call could exceed the limit."""


class SpendingLimit:
    """Limit of the total cost of concurrent calls, by reserving the price of each call before it is sent; thread-safe.

    Parameters
    ----------
    limit : Decimal or None
        Maximum total cost in dollars, including earlier runs; None for no limit.
    spent : Decimal
        Cost of earlier runs in dollars.
    price : Decimal
        Expected price of a call in dollars.
    highest : Decimal
        Highest cost of a call in earlier runs, in dollars.
    """

    def __init__(self, limit: Decimal | None, spent: Decimal, price: Decimal, highest: Decimal = Decimal(0)) -> None:
        self.limit = limit
        self.spent = spent
        self._prices = {"": max(price, highest)}
        self._known = {""} if highest > 0 else set[str]()
        self._reserved = Decimal(0)
        self._running = 0
        self._changed = threading.Condition()

    def add_service(self, service: str, price: Decimal, highest: Decimal) -> None:
        """Register a further service with its expected price and its highest cost of earlier runs, unless it is known."""
        with self._changed:
            if service not in self._prices:
                self._prices[service] = max(price, highest)
                self._known |= {service} if highest > 0 else set()

    def reserve(self, cancelled: Callable[[], bool], service: str = "") -> Decimal:
        """Reserve the price of one call, and wait for running calls if the limit is near.

        Parameters
        ----------
        cancelled : callable () -> bool
        service : str
            A service of `add_service`; by default the one of the constructor.

        Returns
        -------
        Decimal
            Reserved dollars, to be passed to `settle`.

        Raises
        ------
        LimitReachedError
            If another call could exceed the limit.
        CancelledError
            If `cancelled` returns True while the call waits.
        """
        with self._changed:
            while not self._allows(service):
                if cancelled():
                    raise CancelledError("Stopped.")
                if not self._running:
                    raise LimitReachedError(self._refusal(service))
                self._changed.wait(POLL_INTERVAL)
            self._reserved += self._prices[service]
            self._running += 1
            return self._prices[service]

    def settle(self, reserved: Decimal, cost: Cost | None, service: str = "") -> None:
        """Replace a reservation by the cost of the call; None if nothing was charged."""
        with self._changed:
            self._reserved -= reserved
            self._running -= 1
            if cost is not None:
                self.spent += reserved if cost.usd is None else cost.usd
                self._known |= {service} if cost.usd is not None else set()
                self._prices[service] = max(self._prices[service], cost.usd or Decimal(0))
            self._changed.notify_all()

    def _allows(self, service: str) -> bool:
        if self.limit is None:
            return True
        left = self.limit - self.spent - self._reserved
        alone = not self._running
        headroom = service in self._known and left >= HEADROOM * max(self._prices.values())
        return left >= self._prices[service] and (alone or headroom)

    def _refusal(self, service: str) -> str:
        limit = dollars(self.limit or Decimal(0))
        spent, price = dollars(self.spent), dollars(self._prices[service])
        text = "The limit of {limit} is reached: {spent} are spent, and a photo costs {price}."
        return Message(text, owner=" Increase --max-cost to continue.", limit=limit, spent=spent, price=price)


# Cutouts of paid providers in a batch: each call is recorded before it is sent, then resumed, cached and never repeated.


#: Maximum age in seconds of a job that is resumed; services discard older jobs.
RESUME_SECONDS = 24 * 3600

#: Free space in bytes that the output must have before a photo is sent to a paid service.
MIN_FREE_BYTES = 64 << 20

#: End of messages on the command line.
_RETRY = " Add --retry to send the photo again."

UNKNOWN_OUTCOME = Message("An earlier attempt of unknown outcome may have been charged.", owner=_RETRY)

#: Consecutive failures after which a composite provider does not call a service again in the same run.
MAX_STEP_FAILURES = 5

NO_RESULT = Message("An earlier call was charged and gave no result.", owner=_RETRY)

#: The messages above by their texts, which a manifest records.
_EARLIER = {str(message): message for message in (UNKNOWN_OUTCOME, NO_RESULT)}


@dataclass(frozen=True)
class _Step:
    """Paid call of one photo: provider, complete options, their fingerprint, and the context of the call."""

    provider: Provider
    options: Mapping[str, Any]
    inference: str
    context: RequestContext
    of_composite: bool = False

    @property
    def service(self) -> str:
        """Key of the price in the spending limit."""
        return self.inference if self.of_composite else ""


@dataclass(frozen=True, eq=False)
class PaidCalls:
    """Calls of a paid provider on behalf of the workers; thread-safe.

    Parameters
    ----------
    recipe : Recipe
    output : Output
    manifest : Manifest
    mattes : MatteCache
    limit : SpendingLimit
    settings : Settings
    retry : bool
        Send photos again whose last attempt failed and may have been charged.
    cancelled : callable () -> bool
        Cancels the current calls.
    stopping : callable () -> bool
        Returns True if no further call may start.
    hooks : Hooks
    """

    recipe: Recipe
    output: Output
    manifest: Manifest
    mattes: MatteCache
    limit: SpendingLimit
    settings: Settings
    retry: bool
    cancelled: Callable[[], bool]
    stopping: Callable[[], bool]
    hooks: Hooks = NO_HOOKS
    _sending: set[str] = field(default_factory=set)
    _failures: Counter[str] = field(default_factory=Counter)  # consecutive ones of each service that a composite provider calls
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def cutout(self, task: Task, photo: Photo, digest: str) -> tuple[Cutout, bool]:
        """Return the cutout of a photo; the second value is False if it comes from the cache.

        Raises
        ------
        HaltError
            If nothing further may be sent.
        RmbgError
            If there is no cutout; ``cost`` states the charge.
        """
        context = RequestContext(self.settings, self.hooks.key, cancelled=self.cancelled, device=self.hooks.device)
        with self._exclusive(digest):
            if self.recipe.provider.composite:
                return self._composite_cutout(task, photo, digest, context)
            step = _Step(self.recipe.provider, self.recipe.options, self.recipe.inference, context)
            return self._paid_cutout(task, photo, digest, step)

    @contextmanager
    def _exclusive(self, digest: str) -> Iterator[None]:
        """Serialize photos with the same content, so that the second one uses the cached matte of the first."""
        with self._changed:
            while digest in self._sending:
                self._changed.wait(0.2)
                if self.cancelled():
                    raise CancelledError("Stopped.")
            self._sending.add(digest)
        try:
            yield
        finally:
            with self._changed:
                self._sending.discard(digest)
                self._changed.notify_all()

    def _composite_cutout(self, task: Task, photo: Photo, digest: str, context: RequestContext) -> tuple[Cutout, bool]:
        """Return the cutout of a provider that calls others; each paid call is recorded, resumed and cached separately.

        The second value is False for a cutout from the cache.
        """
        matte = self.mattes.load(digest, self.recipe.inference, photo.height, photo.width)
        if matte is not None:
            notes = (task.item.message,) if task.item.state == "done" and task.item.message else photo.notes
            return replace(self.recipe.restore(photo, matte), notes=notes), False

        def run_paid(provider: Provider, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
            step = _Step(provider, options, inference_of(provider, options), context, of_composite=True)
            price = quote(provider.info, options, self.settings).reserve
            self.limit.add_service(step.service, price, self.manifest.highest_cost(step.inference))
            if self._failures[step.service] >= MAX_STEP_FAILURES:
                raise ServiceError(f"It failed on {MAX_STEP_FAILURES} consecutive photos and is not called again in this run.")
            return self._paid_cutout(task, photo, digest, step)[0]

        cutout = run_directly(self.recipe.provider, photo, self.recipe.options, replace(context, run_paid=run_paid))
        if not cutout.provisional:
            with suppress(OutputError):  # the mattes of the paid calls are stored already
                self.mattes.save(digest, self.recipe.inference, cutout.matte)
        return cutout, True

    def _paid_cutout(self, task: Task, photo: Photo, digest: str, step: _Step) -> tuple[Cutout, bool]:
        """Return a cutout from the matte cache, from an earlier call that can be resumed, or from a new call.

        The second value is False for a cutout from the cache.
        """
        call = self.manifest.open_call(digest, step.inference)
        matte = self.mattes.load(digest, step.inference, photo.height, photo.width)
        if matte is not None:
            if call is not None:  # the process was killed after saving the matte and before settling the call
                self.manifest.end_call(call.id, "answered", call.reserved, "listed")
            cutout = self.recipe.restore(photo, matte, step.provider)
            return replace(cutout, cost=self.manifest.charge(digest, step.inference) or cutout.cost), False
        if call is not None and (not self._resumable(call, step) or (self.retry and call.state == "unknown")):
            if not self.retry:
                self.manifest.end_call(call.id, "unknown", None)
                raise _charged(UNKNOWN_OUTCOME)
            call = None
        elif call is None and not self.retry:
            if step.of_composite and self.manifest.charge(digest, step.inference) is not None:
                raise _charged(NO_RESULT)
            if not step.of_composite and self._charged_before(task, digest):
                raise _charged(_EARLIER.get(task.item.message, task.item.message))
        if self.stopping():
            raise CancelledError("Stopped.")
        try:
            self.output.probe(MIN_FREE_BYTES)
        except OutputError as error:
            raise HaltError(f"{error} No further photo was sent.") from None
        if call is not None:
            return self._send(photo, digest, step, call, None), True
        reserved = self.limit.reserve(self.stopping, step.service)
        try:
            call = self.manifest.begin_call(task.entry.name, digest, step.inference, reserved)
        except BaseException:
            self.limit.settle(reserved, None, step.service)
            raise
        return self._send(photo, digest, step, call, reserved), True

    def _charged_before(self, task: Task, digest: str) -> bool:
        item = task.item
        return item.state == "charged" and (item.digest, item.inference) == (digest, self.recipe.inference)

    def _resumable(self, call: Call, step: _Step) -> bool:
        resumes = step.provider.resumes
        recent = time.time() - call.at < RESUME_SECONDS
        return recent and (resumes == "by id" or (resumes == "by handle" and bool(call.handle) and call.state == "sent"))

    def _send(self, photo: Photo, digest: str, step: _Step, call: Call, reserved: Decimal | None) -> Cutout:
        """Send a photo, save its matte and settle the call; `reserved` is None for a call of an earlier run."""
        job = PaidJob(call.job, call.handle, lambda handle: self.manifest.set_handle(call.id, handle))
        cost: Cost | None = Cost(None, "unknown")
        state = "unknown"
        try:
            cutout = run_directly(step.provider, photo, step.options, replace(step.context, job=job))
            cost, state = cutout.cost, "answered"
            self._failures[step.service] = 0
            try:
                with keep_if_paid([cutout], self.settings):
                    self.mattes.save(digest, step.inference, cutout.matte)
            except OutputError:
                current = self.manifest.open_call(digest, step.inference)
                if current is not None and self._resumable(current, step):
                    state = "sent"  # the next run fetches the result from the service again
                raise
            return cutout
        except RmbgError as error:
            self._failures[step.service] += isinstance(error, ServiceError)
            if state == "unknown":  # the call returned no result
                cost = error.cost
                state = "free" if cost is None else ("unknown" if cost.usd is None else "answered")
            raise
        finally:
            if reserved is not None:
                self.limit.settle(reserved, cost, step.service)
            usd, basis = (None, "unknown") if cost is None else (cost.usd, cost.basis)
            self.manifest.end_call(call.id, state, usd, basis)


def _charged(message: str) -> RmbgError:
    """Return an error of a call that may have been charged."""
    error = ServiceError(message)
    error.cost = Cost(None, "unknown")
    return error
