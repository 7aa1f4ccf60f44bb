"""One run of a cascade on one photo: calls, their record, and the result."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from rmbg.billing.cost import Cost, dollars, total
from rmbg.billing.quote import Quote, quote
from rmbg.cutout import Cutout, Step
from rmbg.errors import (
    CancelledError,
    InputError,
    ModelError,
    NoSubjectError,
    NotReadyError,
    OutputError,
    RmbgError,
    ServiceError,
)
from rmbg.images.encode import FORMATS, encode
from rmbg.images.photo import Photo
from rmbg.matting.doubt import estimate_iou
from rmbg.message import public_text
from rmbg.providers.base import DeviceTurn, Provider, ProviderInfo, RequestContext, no_turn, run_directly
from rmbg.providers.cascade.price import dollars_of
from rmbg.timing import add_timings

log = logging.getLogger(__name__)

#: Remaining seconds of the deadline below which no further service is called.
MIN_SECONDS = 1.0

#: Errors of a step after which the next one is called.
STEP_ERRORS = (NoSubjectError, ServiceError, ModelError, NotReadyError, InputError, OutputError)


@dataclass
class Run:
    """One run of a cascade on one photo.

    Attributes
    ----------
    steps : list of Step
    answers : list of (int, Cutout)
        Index of the step, and its cutout.
    paid_answers : list of Cutout
        Answers of services.
    errors : list of RmbgError
        Errors of the failed steps.
    spent : Decimal
        Dollars charged so far; a charge of unknown amount counts with the expected price.
    remote_seconds : float
        Time that services took, which the deadline limits.
    """

    info: ProviderInfo
    registry: Mapping[str, Provider]
    photo: Photo
    options: Mapping[str, Any]
    context: RequestContext
    steps: list[Step] = field(default_factory=list)
    answers: list[tuple[int, Cutout]] = field(default_factory=list)
    paid_answers: list[Cutout] = field(default_factory=list)
    errors: list[RmbgError] = field(default_factory=list)
    spent: Decimal = Decimal(0)
    remote_seconds: float = 0.0

    @property
    def accepted(self) -> bool:
        return bool(self.steps) and self.steps[-1].state == "accepted"

    @property
    def cost(self) -> Cost:
        return total([step.cost for step in self.steps if step.cost is not None])

    def files(self) -> dict[str, bytes]:
        """Return the answers of services as files for the recovery folder."""
        return {f"{c.photo.name}-{c.provider}.png": encode(c.render(), FORMATS["png"]) for c in self.paid_answers}

    def cost_of_files(self) -> Cost:
        return total([cutout.cost for cutout in self.paid_answers])

    def call(self, provider: Provider) -> None:
        """Call one provider and record the step.

        Raises
        ------
        CancelledError
            If the request is cancelled; the message states the charges of all steps.
        NotReadyError
            If too many requests wait for the device. The photo is then not sent to a service instead.
        """
        refusal = self._refusal(provider)
        if refusal is not None:
            self.steps.append(refusal)
            return
        with contextlib.ExitStack() as stack:
            started = time.perf_counter()
            try:
                self.context.check()
                stack.enter_context(self._turn(provider)(self.context.check))
            except RmbgError as error:
                self._record_error(provider, error, started)
                raise self._interruption(error) from None
            self._call(provider)

    def _call(self, provider: Provider) -> None:
        started = time.perf_counter()
        remote = provider.info.kind == "remote"
        try:
            cutout = self._cut(provider)
        except STEP_ERRORS as error:
            self._record_error(provider, error, started)
        except CancelledError as error:
            self._record_error(provider, error, started)
            raise self._interruption(error) from None
        except RmbgError:
            raise
        except Exception:  # a bug in one provider must not lose the answers of the others
            log.exception("%s failed", provider.info.id)
            failure = RmbgError(f"{provider.info.title} failed because of an internal error; see the log.")
            failure.cost = Cost(None, "unknown") if remote else None
            self._record_error(provider, failure, started)
        else:
            self._record(provider, cutout)
        if remote:
            self.remote_seconds += time.perf_counter() - started

    def _turn(self, provider: Provider) -> DeviceTurn:
        """Return the turn of a local step; if the cascade itself is local, its caller holds the device already."""
        local_step = provider.info.kind == "local" and self.info.kind == "remote"
        return self.context.device if local_step else no_turn

    def _interruption(self, error: RmbgError) -> RmbgError:
        """Return the error that ends the run, with the charges of all steps."""
        if any(earlier.cost is not None for earlier in self.errors[:-1]):
            result = type(error)(f"{str(error).partition('. ')[0].rstrip('.')}. {self._report()}")
            result.reserved = error.reserved
            error = result
        error.cost = _charges(self.errors)
        return error

    def _refusal(self, provider: Provider) -> Step | None:
        """Return the step of a provider that is not called, with the reason."""
        info, settings = provider.info, self.context.settings
        status = provider.status(settings)
        if status.state != "ready":
            return Step(info.id, "skipped", f"not ready: {public_text(status.text, shared=True).partition('; ')[0]}")
        if info.kind == "local":
            return None
        if settings.remote_seconds - self.remote_seconds < MIN_SECONDS:
            return Step(info.id, "failed", f"not called, as the deadline of {settings.remote_seconds:g} seconds has passed")
        limit = dollars_of(self.options["max_cost"])
        if self.spent + self._price(provider).reserve > limit:
            return Step(info.id, "skipped", f"not called, because of the limit of {dollars(limit)} for one photo")
        return None

    def _price(self, provider: Provider) -> Quote:
        return quote(provider.info, provider.info.parse_options({}), self.context.settings)

    def _cut(self, provider: Provider) -> Cutout:
        context, info = self.context, provider.info
        local = replace(
            context,
            progress=lambda fraction, text: context.progress(fraction, f"{info.title}: {text}"),
            job=None,
            preview=None,  # a later step may give the result
        )
        if info.kind == "local":
            return run_directly(provider, self.photo, info.parse_options({}), local)
        remaining = context.settings.remote_seconds - self.remote_seconds
        settings = replace(context.settings, remote_seconds=remaining)
        return context.run_paid(provider, self.photo, info.parse_options({}), replace(local, settings=settings))

    def _record(self, provider: Provider, cutout: Cutout) -> None:
        if provider.info.kind == "remote":  # first, so that the answer is not lost if its assessment fails
            self.paid_answers.append(cutout)
        threshold = float(self.options["threshold"])
        confidence = cutout.confidence
        if confidence is None and self.answers:
            index, previous = self.answers[-1]
            confidence = estimate_iou(cutout.matte, previous.matte, self.steps[index].confidence or 0.0)
        elif confidence is None:
            confidence = estimate_iou(cutout.matte)
        good = confidence >= threshold
        reason = f"confidence {confidence:.2f}" + ("" if good else f", below {threshold:.2f}")
        self._spend(provider, cutout.cost)
        self.answers.append((len(self.steps), cutout))
        self.steps.append(
            Step(
                provider.info.id,
                "accepted" if good else "doubtful",
                reason,
                seconds=cutout.seconds,
                cost=cutout.cost,
                confidence=confidence,
            )
        )

    def _record_error(self, provider: Provider, error: RmbgError, started: float) -> None:
        self.errors.append(error)
        self._spend(provider, error.cost)
        nothing = isinstance(error, NoSubjectError)
        reason = "no subject found" if nothing else public_text(str(error), shared=self.context.settings.shared).rstrip(".")
        seconds = time.perf_counter() - started
        self.steps.append(Step(provider.info.id, "nothing" if nothing else "failed", reason, seconds=seconds, cost=error.cost))

    def _spend(self, provider: Provider, cost: Cost | None) -> None:
        if provider.info.kind == "remote" and cost is not None:
            self.spent += self._price(provider).reserve if cost.usd is None else cost.usd

    def result(self) -> Cutout:
        """Return the accepted answer, or else the one with the highest confidence, with the costs of all steps.

        Raises
        ------
        RmbgError
            If there is no answer.
        """
        if not self.answers:
            raise self._failure()
        chosen = max(self.answers, key=lambda answer: (self.steps[answer[0]].state == "accepted", self._rank(answer[0])))
        steps = [replace(step, chosen=index == chosen[0]) for index, step in enumerate(self.steps)]
        cutout, seconds = chosen[1], sum(step.seconds for step in steps)
        return replace(
            cutout,
            provider=self.info.id,
            seconds=seconds,
            timings=add_timings([answer.timings for _, answer in self.answers if answer.timings is not None], seconds),
            cost=self.cost,
            notes=(*cutout.notes, f"Answered by {self._info(chosen[0]).title}. {self._report()}"),
            steps=tuple(steps),
        )

    def _rank(self, index: int) -> tuple[float, int]:
        return self.steps[index].confidence or 0.0, index

    def _report(self) -> str:
        """Return a sentence for each step: provider, reason, cost."""
        parts = []
        for index, step in enumerate(self.steps):
            cost = f" ({step.cost})" if step.cost is not None else ""
            parts.append(f"{self._info(index).title}: {step.reason}{cost}.")
        return " ".join(parts)

    def _failure(self) -> RmbgError:
        """Return the error of a run without an answer."""
        if all(isinstance(error, NoSubjectError) for error in self.errors) and not self._failed_or_skipped():
            error: RmbgError = NoSubjectError("No provider of the cascade found a subject in the photo. Try another photo.")
        else:
            kind = ServiceError if self.errors and isinstance(self.errors[-1], ServiceError) else RmbgError
            error = kind(f"The cascade has no result. {self._report()}")
        error.cost = _charges(self.errors)
        reserved = [each.reserved for each in self.errors if each.reserved is not None]
        error.reserved = sum(reserved, Decimal(0)) if reserved else None
        return error

    def _failed_or_skipped(self) -> bool:
        return any(step.state in ("failed", "skipped") for step in self.steps)

    def _info(self, index: int) -> ProviderInfo:
        return self.registry[self.steps[index].provider].info


def _charges(errors: list[RmbgError]) -> Cost | None:
    """Return the sum of the charges of failed steps; None if nothing was charged."""
    costs = [error.cost for error in errors if error.cost is not None]
    return total(costs) if costs else None
