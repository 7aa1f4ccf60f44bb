"""Cascade: calls several providers in turn until the estimated quality of an answer is sufficient."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import reduce
from itertools import islice
from typing import Any

import numpy as np

from rmbg.billing import recovery
from rmbg.billing.cost import Cost, dollars, total
from rmbg.billing.quote import Quote, quote
from rmbg.cutout import HIGH_CONFIDENCE, Cutout, Step
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
    alternatives,
    check_text,
    printable,
)
from rmbg.images.encode import FORMATS, encode
from rmbg.images.photo import Photo
from rmbg.matting.doubt import estimate_iou
from rmbg.providers.base import (
    READY,
    Execution,
    Option,
    Provider,
    ProviderInfo,
    RequestContext,
    Status,
    no_turn,
    run_directly,
)
from rmbg.runtime.messages import Message, joined, public_text
from rmbg.runtime.telemetry import add_timings
from rmbg.settings import Settings

log = logging.getLogger(__name__)

#: Remaining seconds of the deadline below which no further service is called.
MIN_SECONDS = 1.0

#: Errors of a step after which the next one is called.
STEP_ERRORS = (NoSubjectError, ServiceError, ModelError, NotReadyError, InputError, OutputError)

ID = "cascade"

#: First step of the cascade without a list.
FIRST = "builtin"

#: Largest number of services of the cascade without a list. In `benchmarks.cascade`, a third one raises the bill by 40 to 110 %
#: and the IoU by .002 to .007.
MAX_SERVICES = 2

#: Model and license of the cascade without a list before its steps are chosen, for tables.
UNFIXED_MODEL = "builtin, then the best free network that is ready, then services by price"
UNFIXED_LICENSE = "The terms of its providers apply."

STEPS_HELP = "Ids, separated by commas. If empty: free ones that are ready, then services by price."

#: Estimated IoU from which an answer is accepted; ``python -m benchmarks.cascade`` measures the choice.
THRESHOLD = HIGH_CONFIDENCE

#: Default limit of the charges for one photo in dollars; the services of the cascade without a list cost less together.
MAX_COST = 0.05

#: Shares of the photos whose built-in result is below a threshold, as (threshold, share); ``python -m benchmarks.cascade``.
BUILTIN_SHARES = (
    (0.0, 0.0), (0.3, 0.0), (0.5, 0.01), (0.6, 0.03), (0.7, 0.08), (0.75, 0.11), (0.8, 0.15), (0.85, 0.22), (0.9, 0.36),
    (0.94, 0.65), (0.96, 0.84), (1.0, 1.0),
)  # fmt: skip

#: The same for the next answer on these photos, whose quality is estimated.
FURTHER_SHARES = (
    (0.0, 0.0),
    (0.7, 0.0),
    (0.75, 0.01),
    (0.8, 0.08),
    (0.85, 0.23),
    (0.9, 0.58),
    (0.94, 0.98),
    (0.96, 1.0),
    (1.0, 1.0),
)


def quote_steps(providers: Iterable[Provider], threshold: float, limit: Decimal, settings: Settings) -> Quote:
    """Return the price of one photo: expected, and at most.

    Only services that are ready and whose price is within `limit` count; a local quote is returned if there are none.

    Parameters
    ----------
    providers : iterable of Provider
        The steps.
    threshold : float
        Required confidence in [0, 1].
    limit : Decimal
        Limit for one photo in dollars.
    settings : Settings
    """
    expected, most, own, reached = Decimal(0), Decimal(0), Decimal(0), Decimal(1)
    steps: list[str] = []
    months: list[str] = []
    services, unknown = False, False
    for provider in providers:
        info = provider.info
        price = quote(info, info.parse_options({}), settings)
        if provider.status(settings).state != "ready" or price.reserve > limit:
            continue
        usd = reached * (price.cost.usd or Decimal(0))
        if info.kind == "local":
            own += usd
        else:
            services = True
            months += [price.seen] if price.seen else []
            unknown |= price.cost.usd is None
            # A failed step costs nothing, so that a later one may be within the limit although the sum is not.
            expected += usd if most + price.reserve <= limit else 0
            most += price.reserve
        steps.append(Message("{title} ({price})", title=info.title, price=price.brief()))
        reached *= doubtful_share(threshold, BUILTIN_SHARES if info.id == "builtin" else FURTHER_SHARES)
    listed = reduce(_then, steps, "")
    if not services:
        return Quote(Cost(own, "estimated"), Decimal(0), local=True, steps=listed)
    most = min(most, limit)
    cost = Cost(None, "unknown") if unknown else Cost(expected, "estimated")
    return Quote(cost, most, seen=min(months, default=""), most=None if unknown else most, steps=listed)


def doubtful_share(threshold: float, table: Sequence[tuple[float, float]] = BUILTIN_SHARES) -> Decimal:
    """Expected share of the photos with a result below `threshold`, interpolated in a table."""
    thresholds, shares = zip(*table, strict=True)
    return dollars_of(round(float(np.interp(threshold, thresholds, shares)), 4))


def dollars_of(value: Any) -> Decimal:
    """Return the value of an option as an exact amount."""
    return Decimal(str(value))


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
        turn = self.context.device if provider.info.kind == "local" else no_turn
        with contextlib.ExitStack() as stack:
            started = time.perf_counter()
            try:
                self.context.check()
                stack.enter_context(turn(self.context.check))
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
            device=no_turn,  # held already
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
        step = Step(provider.info.id, "accepted" if good else "doubtful", reason)
        self.steps.append(replace(step, seconds=cutout.seconds, cost=cutout.cost, confidence=confidence))

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

        def rank(answer: tuple[int, Cutout]) -> tuple[bool, float, int]:
            step = self.steps[answer[0]]
            return step.state == "accepted", step.confidence or 0.0, answer[0]

        chosen, cutout = max(self.answers, key=rank)
        steps = [replace(step, chosen=index == chosen) for index, step in enumerate(self.steps)]
        seconds = sum(step.seconds for step in steps)
        return replace(
            cutout,
            provider=self.info.id,
            seconds=seconds,
            timings=add_timings([answer.timings for _, answer in self.answers if answer.timings is not None], seconds),
            cost=total([step.cost for step in steps if step.cost is not None]),
            notes=(*cutout.notes, f"Answered by {self.registry[steps[chosen].provider].info.title}. {self._report()}"),
            steps=tuple(steps),
        )

    def _report(self) -> str:
        """Return a sentence for each step: provider, reason, cost."""
        costs = [f" ({step.cost})" if step.cost is not None else "" for step in self.steps]
        steps = zip(self.steps, costs, strict=True)
        return " ".join(f"{self.registry[step.provider].info.title}: {step.reason}{cost}." for step, cost in steps)

    def _failure(self) -> RmbgError:
        """Return the error of a run without an answer."""
        if all(step.state == "nothing" for step in self.steps):
            error: RmbgError = NoSubjectError("No provider of the cascade found a subject in the photo. Try another photo.")
        else:
            kind = ServiceError if self.errors and isinstance(self.errors[-1], ServiceError) else RmbgError
            error = kind(f"The cascade has no result. {self._report()}")
        error.cost = _charges(self.errors)
        reserved = [each.reserved for each in self.errors if each.reserved is not None]
        error.reserved = sum(reserved, Decimal(0)) if reserved else None
        return error


def _charges(errors: list[RmbgError]) -> Cost | None:
    """Return the sum of the charges of failed steps; None if nothing was charged."""
    costs = [error.cost for error in errors if error.cost is not None]
    return total(costs) if costs else None


def cheapest_services(
    registry: Mapping[str, Provider], names: Iterable[str], ranking: Sequence[str], best: str, state: str, settings: Settings
) -> tuple[str, ...]:
    """Return services by quoted price, each of which runs a better network than `best` and the services before it.

    A network of equal or lower quality would cost money and hardly improve a doubtful result. A service's own network counts as
    better than those in `ranking`. At most `MAX_SERVICES` are returned, which cost at most `MAX_COST` together.

    Parameters
    ----------
    registry : mapping of id to Provider
    names : iterable of str
        Ids of the providers that may be returned; those without ``ProviderInfo.network`` or with an unknown price are not.
    ranking : sequence of str
        Ids of networks in order of quality.
    best : str
        The best network so far, one of `ranking`.
    state : str
        Required state of the services.
    settings : Settings
    """
    priced = []
    for name in names:
        info = registry[name].info
        price = quote(info, info.parse_options({}), settings)
        if info.network and price.cost.usd is not None and registry[name].status(settings).state == state:
            priced.append((price.reserve, name))
    chosen: list[str] = []
    left, rank = dollars_of(MAX_COST), ranking.index(best)
    for usd, name in sorted(priced, key=lambda entry: entry[0]):
        network = registry[name].info.network
        own = ranking.index(network) if network in ranking else -1
        if own < rank and usd <= left and len(chosen) < MAX_SERVICES:
            chosen.append(name)
            left, rank = left - usd, own
    return tuple(chosen)


class Cascade(Provider):
    """Calls providers in turn, and the next one only if no answer so far is accepted.

    The confidence of an answer is the IoU that its network predicts, or else the estimate of `estimate_iou`. Only providers
    that are ready are called. Services use the keys of the environment.

    Without a list, the steps are the built-in provider, the best free network that is ready, and `cheapest_services` that are
    ready. They are chosen for the settings of each call, among the providers in `registry` when the cascade is created, which
    are those of this package.

    Parameters
    ----------
    registry : mapping of id to Provider
        May be changed later.
    steps : tuple of str
        Ids of the providers.
    ranking : tuple of str
        Free providers in order of quality, for the cascade without a list.
    """

    composite = True

    #: Paid steps are recorded and resumed one by one; see ``RequestContext.run_paid``.
    resumes = "by id"

    def __init__(self, registry: Mapping[str, Provider], steps: tuple[str, ...] = (), ranking: tuple[str, ...] = ()) -> None:
        self._registry, self._names = registry, tuple(registry)
        self.steps, self._ranking = steps, ranking
        self.info = self._describe()

    def select(self, name: str, options: Mapping[str, Any], settings: Settings) -> Cascade:
        """Return the cascade of ``cascade:A,B`` or of the option ``steps``; by default this one with its present steps.

        Raises
        ------
        OptionError
            If the list of providers is invalid or given twice.
        """
        _, colon, listed = name.partition(":")
        given = str(options.get("steps") or "")
        if colon and given and self.parse_steps(given) != self.parse_steps(listed):
            raise OptionError("The providers of the cascade are given twice. Omit the option steps.")
        if colon or given:
            return Cascade(self._registry, self.parse_steps(listed if colon else given))
        return self.fixed(self.current_steps(settings))

    def fixed(self, steps: tuple[str, ...]) -> Cascade:
        """Return the cascade without a list with these steps, whatever the settings are later."""
        return Cascade(self._registry, steps, self._ranking)

    def current_steps(self, settings: Settings) -> tuple[str, ...]:
        """Return the ids of the providers with these settings.

        If there is only one, the services follow that need no more than a key, so that the status names them.
        """
        if self.steps:
            return self.steps
        free = (name for name in self._ranking if name != FIRST and self._registry[name].status(settings).state == "ready")
        steps = (FIRST, *islice(free, 1))
        for state in ("ready", "key"):
            steps += cheapest_services(self._registry, self._names, self._ranking, steps[-1], state, settings)
            if len(steps) > 1:
                break
        return steps

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
                known = alternatives(name, (other for other in self._registry if other != ID))
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
        states = [(self._registry[name].info, self._registry[name].status(settings)) for name in self.current_steps(settings)]
        missing = [(info.title, status) for info, status in states if status.state != "ready"]
        if not missing:
            return READY
        if len(states) - len(missing) > 1:
            return Status("ready", Message("ready, without {titles}", titles=", ".join(title for title, _ in missing)))
        without_key = [title for title, status in missing if status.state == "key"]
        if without_key:
            return Status("key", Message("needs a key for {titles}", titles=", ".join(without_key)))
        texts: list[str] = [Message("{title}: {text}", title=title, text=status.text) for title, status in missing]
        return Status("unavailable", reduce(lambda text, other: Message("{first}; {second}", first=text, second=other), texts))

    def executions(self, settings: Settings) -> tuple[Execution, ...]:
        steps = [self._registry[name] for name in self.current_steps(settings)]
        ready = [provider for provider in steps if provider.status(settings).state == "ready"]
        return tuple(execution for provider in ready for execution in provider.executions(settings))

    def checksums(self, options: Mapping[str, Any], settings: Settings) -> tuple[str, ...]:
        steps = [self._registry[name] for name in self.parse_steps(options["steps"])]
        return tuple(checksum for provider in steps for checksum in provider.checksums({}, settings))

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        if context.key:
            raise OptionError("The cascade uses the keys of the environment. Omit the key, or choose a single service.")
        run = Run(self.info, self._registry, photo, options, context)
        try:
            for name in self._steps_of(options, context.settings):
                run.call(self._registry[name])
                if run.steps[-1].state == "accepted":
                    break
        except RmbgError:
            if not run.paid_answers:
                raise
        except BaseException:  # such as KeyboardInterrupt
            if not run.paid_answers:
                raise
            with recovery.kept(run.files, total([cutout.cost for cutout in run.paid_answers]), context.settings):
                raise
        return run.result()

    def quote(self, options: Mapping[str, Any], settings: Settings) -> Quote:
        """Return the price of one photo with these options; missing ones have their defaults."""
        given = {option.name: options.get(option.name, option.default) for option in self.info.options}
        providers = [self._registry[name] for name in self._steps_of(given, settings)]
        return quote_steps(providers, float(given["threshold"]), dollars_of(given["max_cost"]), settings)

    def _steps_of(self, options: Mapping[str, Any], settings: Settings) -> tuple[str, ...]:
        return self.parse_steps(options["steps"]) if options["steps"] else self.current_steps(settings)

    def _describe(self) -> ProviderInfo:
        infos = [self._registry[name].info for name in self.steps or (FIRST,)]
        services = [info for info in infos if info.kind == "remote"]
        pixels, model, license = "The photo stays on this machine.", UNFIXED_MODEL, UNFIXED_LICENSE
        if services or not self.steps:
            text = "The photo is processed on this machine, and is sent to a further service only if the result is doubtful."
            if infos[0].kind == "remote":
                text = "The photo is sent to {title}, and is sent to a further service only if the result is doubtful."
            pixels = joined(Message(text, title=infos[0].title), _of_each(services, "pixels"))
        if self.steps:
            model, license = reduce(_then, self.steps), _of_each(infos, "license")
        return ProviderInfo(
            id=ID if self._ranking else f"{ID}:{'+'.join(self.steps)}",
            title="Cascade" if self._ranking else f"Cascade of {', '.join(info.title for info in infos)}",
            # The kind of the cascade without a list is constant, as callers find the provider of an earlier result by its id.
            kind="remote" if services or self._ranking else "local",
            model=model,
            license=license,
            license_url="",
            pixels=pixels,
            seconds=infos[0].seconds,
            supports=("soft alpha",),
            options=(
                Option("steps", "Providers, cheapest first", ",".join(self.steps), STEPS_HELP),
                Option(
                    "threshold",
                    "Required confidence",
                    THRESHOLD,
                    "The next provider is called if the confidence is lower.",
                    0,
                    1,
                ),
                Option("max_cost", "Limit for one photo in US dollars", MAX_COST, "", 0, 10_000),
            ),
            pricing=self.quote,
        )


def _then(first: str, second: str) -> str:
    """Return two steps in turn as a text; the first may be empty."""
    return Message("{first}, then {second}", first=first, second=second) if first else second


def _of_each(infos: list[ProviderInfo], name: str) -> str:
    """Return the text `name` of each provider after its title."""
    texts = (getattr(info, name) for info in infos)
    said = (text if isinstance(text, Message) else Message(text) for text in texts)
    return reduce(
        joined, (Message("{title}: {text}", title=i.title, text=text) for i, text in zip(infos, said, strict=True)), ""
    )
