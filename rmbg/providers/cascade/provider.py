"""Cascade: calls several providers in turn until the estimated quality of an answer is sufficient."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import Any

from rmbg.billing import recovery
from rmbg.billing.quote import Quote
from rmbg.cutout import HIGH_CONFIDENCE, Cutout
from rmbg.errors import OptionError, RmbgError, check_text, printable
from rmbg.images.photo import Photo
from rmbg.message import Message, joined
from rmbg.providers.base import READY, Execution, Option, Provider, ProviderInfo, RequestContext, Status
from rmbg.providers.cascade.price import dollars_of, quote_steps
from rmbg.providers.cascade.run import Run
from rmbg.settings import Settings

ID = "cascade"

#: Providers of the cascade without a list, cheapest first.
DEFAULT_STEPS = ("builtin", "runware-rembg-1.4", "fal-rmbg-2.0")

#: Estimated IoU from which an answer is accepted; ``python -m benchmarks.cascade`` measures the choice.
THRESHOLD = HIGH_CONFIDENCE

#: Default limit of the charges for one photo in dollars; the default steps cost less together.
MAX_COST = 0.05


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
            return Status("ready", Message("ready, without {titles}", titles=", ".join(title for title, _ in missing)))
        without_key = [title for title, status in missing if status.state == "key"]
        if without_key:
            return Status("key", Message("needs a key for {titles}", titles=", ".join(without_key)))
        texts: list[str] = [Message("{title}: {text}", title=title, text=status.text) for title, status in missing]
        return Status("unavailable", reduce(lambda text, other: Message("{first}; {second}", first=text, second=other), texts))

    def executions(self, settings: Settings) -> tuple[Execution, ...]:
        ready = [self._registry[name] for name in self.steps if self._registry[name].status(settings).state == "ready"]
        return tuple(execution for provider in ready for execution in provider.executions(settings))

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        if context.key:
            raise OptionError("The cascade uses the keys of the environment. Omit the key, or choose a single service.")
        run = Run(self.info, self._registry, photo, options, context)
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
            with recovery.kept(run.files, run.cost_of_files(), context.settings):
                raise
        return run.result()

    def quote(self, options: Mapping[str, Any], settings: Settings) -> Quote:
        """Return the price of one photo with these options; missing ones have their defaults."""
        given = {option.name: options.get(option.name, option.default) for option in self.info.options}
        providers = [self._registry[name] for name in self.parse_steps(given["steps"])]
        return quote_steps(providers, float(given["threshold"]), dollars_of(given["max_cost"]), settings)

    def _describe(self) -> ProviderInfo:
        infos = [self._registry[name].info for name in self.steps]
        services = [info for info in infos if info.kind == "remote"]
        pixels = "The photo stays on this machine."
        if services:
            text = "The photo is processed on this machine, and is sent to a further service only if the result is doubtful."
            if infos[0].kind == "remote":
                text = "The photo is sent to {title}, and is sent to a further service only if the result is doubtful."
            pixels = joined(Message(text, title=infos[0].title), _of_each(services, "pixels"))
        return ProviderInfo(
            id=ID if self.steps == DEFAULT_STEPS else f"{ID}:{'+'.join(self.steps)}",
            title="Cascade" if self.steps == DEFAULT_STEPS else f"Cascade of {', '.join(info.title for info in infos)}",
            kind="remote" if services else "local",
            model=reduce(lambda first, second: Message("{first}, then {second}", first=first, second=second), self.steps),
            license=_of_each(infos, "license"),
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


def _of_each(infos: list[ProviderInfo], name: str) -> str:
    """Return the text `name` of each provider after its title."""
    texts = (getattr(info, name) for info in infos)
    said = (text if isinstance(text, Message) else Message(text) for text in texts)
    return reduce(
        joined, (Message("{title}: {text}", title=i.title, text=text) for i, text in zip(infos, said, strict=True)), ""
    )
