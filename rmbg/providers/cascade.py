"""Cascade: calls several providers in turn until the estimated quality of an answer is sufficient."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np

from rmbg.billing import recovery
from rmbg.billing.cost import Cost, dollars, total
from rmbg.billing.quote import Quote, quote
from rmbg.cutout import Cutout, Step
from rmbg.errors import (
    CancelledError,
    InputError,
    ModelError,
    NoSubjectError,
    NotReadyError,
    OptionError,
    OutputError,
    RmbgError,
    ServiceError,
    check_text,
    printable,
)
from rmbg.images.encode import FORMATS, encode
from rmbg.images.photo import Photo
from rmbg.matting.doubt import estimate_iou
from rmbg.providers.base import READY, DeviceTurn, Option, Provider, ProviderInfo, RequestContext, Status, no_turn
from rmbg.settings import Settings

log = logging.getLogger(__name__)

ID = "cascade"

#: Providers of the cascade without a list, cheapest first.
DEFAULT_STEPS = ("builtin", "runware-rembg-1.4", "fal-rmbg-2.0")

#: Estimated IoU from which an answer is accepted; ``python -m benchmarks.cascade`` measures the choice.
THRESHOLD = 0.8

#: Default limit of the charges for one photo in dollars; the default steps cost less together.
MAX_COST = 0.05

#: Share of the photos whose built-in result is below a threshold, measured by ``python -m benchmarks.cascade``.
DOUBTFUL_SHARES = ((0.0, 0.0), (0.3, 0.0), (0.5, 0.06), (0.7, 0.13), (0.8, 0.22), (0.9, 0.33), (0.95, 0.68), (1.0, 1.0))

#: Share of the photos on which the answer of another provider is doubtful as well, for estimates of the price.
SERVICE_DOUBTFUL_SHARE = Decimal("0.2")

#: Remaining seconds of the deadline below which no further service is called.
MIN_SECONDS = 1.0

#: Errors of a step after which the next one is called.
STEP_ERRORS = (NoSubjectError, ServiceError, ModelError, NotReadyError, InputError, OutputError)


class Cascade(Provider):
    """Calls providers in turn, and the next one only if no answer so far is accepted.

    The confidence of an answer is the IoU that its network predicts, or else the estimate of `estimate_iou`. Only providers
    that are ready are called. Services use the keys of the environment.

    Parameters
    ----------
    registry : mapping of id to Provider
        May be changed later.
    steps : tuple of str
        Ids of the providers.
    """

    composite = True

    #: Paid steps are recorded and resumed one by one; see ``RequestContext.run_paid``.
    resumes = "by id"

    def __init__(self, registry: Mapping[str, Provider], steps: tuple[str, ...] = DEFAULT_STEPS) -> None:
        self._registry = registry
        self.steps = steps
        self.info = self._describe()

    def select(self, name: str, options: Mapping[str, Any]) -> Cascade:
        """Return the cascade of ``cascade:A,B`` or of the option ``steps``; by default this one.

        Raises
        ------
        OptionError
            If the list of providers is invalid or given twice.
        """
        _, colon, listed = name.partition(":")
        given = str(options.get("steps") or "")
        if colon and given and self.parse_steps(given) != self.parse_steps(listed):
            raise OptionError("The providers of the cascade are given twice. Omit the option steps.")
        steps = self.parse_steps(listed) if colon else self.parse_steps(given) if given else self.steps
        return self if steps == self.steps else Cascade(self._registry, steps)

    def parse_steps(self, text: str) -> tuple[str, ...]:
        """Parse ids separated by commas or plus signs.

        Raises
        ------
        OptionError
            If there are fewer than two, or one is unknown, repeated or a cascade itself.
        """
        names = tuple(name.strip() for name in check_text(text, "The list of providers").replace("+", ",").split(","))
        names = tuple(name for name in names if name)
        for name in names:
            if name.partition(":")[0] == ID:
                raise OptionError("A cascade cannot contain a cascade. List its providers instead.")
            if name not in self._registry:
                known = ", ".join(other for other in self._registry if other != ID)
                raise OptionError(f"The cascade contains an unknown provider {printable(name, 60)!r}; choose from {known}.")
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated:
            raise OptionError(f"The cascade contains {repeated} twice. List each provider once.")
        if len(names) < 2:
            raise OptionError(
                "A cascade needs two or more providers, such as cascade:builtin+runware-rembg-1.4. In a list of providers, "
                "separate those of a cascade by plus signs."
            )
        return names

    def status(self, settings: Settings) -> Status:
        states = [(self._registry[name].info, self._registry[name].status(settings)) for name in self.steps]
        missing = [(info.title, status) for info, status in states if status.state != "ready"]
        if not missing:
            return READY
        if len(states) - len(missing) > 1:
            return Status("ready", f"ready, without {' and '.join(title for title, _ in missing)}")
        without_key = [title for title, status in missing if status.state == "key"]
        if without_key:
            return Status("key", f"needs a key for {' or '.join(without_key)}")
        return Status("unavailable", "; ".join(f"{title}: {status.text}" for title, status in missing))

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        if context.key:
            raise OptionError("The cascade uses the keys of the environment. Omit the key, or choose a single service.")
        run = _Run(self, photo, options, context)
        try:
            for name in self.parse_steps(options["steps"]):
                run.call(self._registry[name])
                if run.accepted:
                    break
        except RmbgError:
            if not run.paid_answers:
                raise
        except BaseException:  # such as KeyboardInterrupt
            if not run.paid_answers:
                raise
            with recovery.kept(run.files, run.cost, context.settings):
                raise
        return run.result()

    def quote(self, options: Mapping[str, Any], settings: Settings) -> Quote:
        """Return the price of one photo: expected for the usual share of doubtful answers, and at most.

        Parameters
        ----------
        options : mapping
            Validated options; missing ones have their defaults.
        settings : Settings
        """
        given = {option.name: options.get(option.name, option.default) for option in self.info.options}
        limit, threshold = _usd(given["max_cost"]), float(given["threshold"])
        providers = [self._registry[name] for name in self.parse_steps(given["steps"])]
        ready = [provider for provider in providers if provider.status(settings).state == "ready"]
        expected, most, reached = Decimal(0), Decimal(0), Decimal(1)
        services, unknown, seen = [], False, ""
        for provider in ready:
            price = quote(provider.info, provider.info.parse_options({}), settings)
            if most + price.reserve > limit:
                continue
            if provider.info.kind == "remote":
                services.append(provider.info.title)
                seen = max(seen, price.seen)
            unknown |= price.cost.usd is None
            expected += reached * (price.cost.usd or Decimal(0))
            most += price.reserve
            reached *= doubtful_share(threshold) if provider.info.id == "builtin" else SERVICE_DOUBTFUL_SHARE
        if not services:
            return Quote(Cost(expected, "estimated"), Decimal(0), local=True)
        cost = Cost(None, "unknown") if unknown else Cost(expected, "estimated")
        recipients = ", then ".join(services)
        if ready[0].info.kind == "local":
            recipients = f"{recipients}, if the result of {ready[0].info.title} is doubtful"
        return Quote(cost, most, seen=seen, most=None if unknown else most, recipients=recipients)

    def step_info(self, name: str) -> ProviderInfo:
        """Return the `ProviderInfo` of a step."""
        return self._registry[name].info

    def _describe(self) -> ProviderInfo:
        infos = [self._registry[name].info for name in self.steps]
        services = [info for info in infos if info.kind == "remote"]
        pixels = "The photo stays on this machine."
        if services:
            sent = " ".join(f"{info.title}: {info.pixels}" for info in services)
            pixels = f"The photo is sent to the next service only if the previous result is doubtful. {sent}"
        return ProviderInfo(
            id=ID if self.steps == DEFAULT_STEPS else f"{ID}:{'+'.join(self.steps)}",
            title="Cascade" if self.steps == DEFAULT_STEPS else f"Cascade of {', '.join(info.title for info in infos)}",
            kind="remote" if services else "local",
            model=", then ".join(info.id for info in infos),
            license=" ".join(f"{info.title}: {info.license}" for info in infos),
            license_url="",
            pixels=pixels,
            seconds=infos[0].seconds,
            supports=("soft alpha",),
            options=(
                Option("steps", "Providers, cheapest first", "text", ",".join(self.steps), "Ids, separated by commas."),
                Option(
                    "threshold",
                    "Required confidence",
                    "float",
                    THRESHOLD,
                    "The next provider is called if the confidence is lower.",
                    0,
                    1,
                ),
                Option("max_cost", "Limit for one photo in US dollars", "float", MAX_COST, "", 0, 10_000),
            ),
            pricing=self.quote,
        )


@dataclass
class _Run:
    """One run of a cascade on one photo.

    Attributes
    ----------
    steps : list of Step
    answers : list of (int, Cutout)
        Index of the step, and its cutout.
    spent : Decimal
        Dollars charged so far; a charge of unknown amount counts with the expected price.
    remote_seconds : float
        Time that services took, which the deadline limits.
    """

    cascade: Cascade
    photo: Photo
    options: Mapping[str, Any]
    context: RequestContext
    steps: list[Step] = field(default_factory=list)
    answers: list[tuple[int, Cutout]] = field(default_factory=list)
    errors: list[RmbgError] = field(default_factory=list)
    spent: Decimal = Decimal(0)
    remote_seconds: float = 0.0

    @property
    def accepted(self) -> bool:
        return bool(self.steps) and self.steps[-1].state == "accepted"

    @property
    def paid_answers(self) -> list[Cutout]:
        return [cutout for index, cutout in self.answers if self._info(index).kind == "remote"]

    @property
    def cost(self) -> Cost:
        return total([step.cost for step in self.steps if step.cost is not None])

    def files(self) -> dict[str, bytes]:
        """Return the answers of services as files for the recovery folder."""
        return {f"{c.photo.name}-{c.provider}.png": encode(c.render(), FORMATS["png"]) for c in self.paid_answers}

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
            error = RmbgError(f"{provider.info.title} failed because of an internal error; see the log.")
            error.cost = Cost(None, "unknown") if remote else None
            self._record_error(provider, error, started)
        else:
            self._record(provider, cutout)
        if remote:
            self.remote_seconds += time.perf_counter() - started

    def _turn(self, provider: Provider) -> DeviceTurn:
        """Return the turn of a local step; if the cascade itself is local, its caller holds the device already."""
        local_step = provider.info.kind == "local" and self.cascade.info.kind == "remote"
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
            return Step(info.id, "skipped", f"not ready: {status.text.partition('; ')[0]}")
        if info.kind == "local":
            return None
        if settings.remote_seconds - self.remote_seconds < MIN_SECONDS:
            return Step(info.id, "failed", f"not called, as the deadline of {settings.remote_seconds:g} seconds has passed")
        limit = _usd(self.options["max_cost"])
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
        )
        if info.kind == "local":
            return provider.cut(self.photo, info.parse_options({}), local)
        remaining = context.settings.remote_seconds - self.remote_seconds
        settings = replace(context.settings, remote_seconds=remaining)
        return context.run_paid(provider, self.photo, info.parse_options({}), replace(local, settings=settings))

    def _record(self, provider: Provider, cutout: Cutout) -> None:
        threshold = float(self.options["threshold"])
        previous = self.answers[-1][1].matte if self.answers else None
        confidence = estimate_iou(cutout.matte, previous) if cutout.confidence is None else cutout.confidence
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
        reason = "no subject found" if nothing else str(error).rstrip(".")
        seconds = time.perf_counter() - started
        state = "nothing" if nothing else "failed"
        self.steps.append(Step(provider.info.id, state, reason, seconds=seconds, cost=error.cost))

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
        cutout = chosen[1]
        return replace(
            cutout,
            provider=self.cascade.info.id,
            seconds=sum(step.seconds for step in steps),
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
        return self.cascade.step_info(self.steps[index].provider)


def _charges(errors: list[RmbgError]) -> Cost | None:
    """Return the sum of the charges of failed steps; None if nothing was charged."""
    costs = [error.cost for error in errors if error.cost is not None]
    return total(costs) if costs else None


def _usd(value: Any) -> Decimal:
    return Decimal(str(value))


def doubtful_share(threshold: float) -> Decimal:
    """Expected share of the photos whose built-in result has a confidence below `threshold`."""
    thresholds, shares = zip(*DOUBTFUL_SHARES, strict=True)
    return _usd(round(float(np.interp(threshold, thresholds, shares)), 4))
