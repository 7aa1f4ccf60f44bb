"""Runs several providers on one photo."""

from __future__ import annotations

import logging
import queue
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from rmbg.billing.cost import Cost
from rmbg.cutout import Cutout
from rmbg.errors import NotReadyError, OptionError, RmbgError, check_text
from rmbg.images.photo import open_photo
from rmbg.providers import Provider, find
from rmbg.providers.base import DeviceTurn, RequestContext, never_cancelled, no_progress, no_turn, run_directly
from rmbg.runtime.cancellation import CancellationToken
from rmbg.runtime.messages import Message
from rmbg.settings import Settings

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Outcome:
    """Outcome of one provider: a cutout, or an error message and the cost of the failed call."""

    provider: str
    cutout: Cutout | None
    error: str = ""
    spent: Cost | None = None

    @property
    def title(self) -> str:
        return find(self.provider).info.title


def parse_ids(text: str) -> list[str]:
    """Provider ids in a comma-separated list; empty ones are skipped."""
    return [name.strip() for name in check_text(text, "The list of providers").split(",") if name.strip()]


def select_providers(ids: Sequence[str], settings: Settings) -> list[Provider]:
    """Find providers by id, without duplicates; ``auto`` is the best free one that is ready.

    Raises
    ------
    OptionError
        If `ids` is empty or contains an unknown id.
    """
    found = {provider.info.id: provider for provider in (find(name, settings) for name in ids)}
    if not found:
        raise OptionError("Choose at least one provider to compare.")
    return list(found.values())


def compare(
    source: Any,
    ids: Sequence[str],
    *,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    keys: Mapping[str, str] | None = None,
    settings: Settings | None = None,
    progress: Callable[[float | None, str], None] = no_progress,
    cancelled: Callable[[], bool] = never_cancelled,
    device: DeviceTurn = no_turn,
) -> Iterator[Outcome]:
    """Run all providers on one photo; yields the outcome of each as soon as it is available.

    Local providers run one after another, because they share the device, each after a warm-up; remote ones run in parallel. A
    failure of one provider does not affect the others. Closing the iterator, or `cancelled`, stops the providers that are
    still running.

    Parameters
    ----------
    source : bytes, path, binary file object, PIL image, data URI or Photo
    ids : sequence of str
        Ids of the providers.
    options : mapping of provider id to options, optional
    keys : mapping of provider id to key, optional
    progress : callable (fraction, text)
        Called from several threads.
    cancelled : callable () -> bool
    device : callable (check) -> context manager
        Held while a local provider runs.

    Raises
    ------
    InputError
        If photo, providers or options cannot be used. Nothing has been sent then.
    """
    settings = settings or Settings.from_environ()
    providers = select_providers(ids, settings)
    parsed = {p.info.id: p.info.parse_options((options or {}).get(p.info.id, {})) for p in providers}
    photo = open_photo(source, settings=settings)
    token = CancellationToken(cancelled)
    outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()

    def run_one(provider: Provider) -> None:
        info = provider.info
        key, report = (keys or {}).get(info.id), lambda fraction, text: progress(fraction, f"{info.title}: {text}")
        call = RequestContext(settings, key, report, token.cancelled, device=device)
        try:
            call.check()
            status = provider.status(settings)
            if not status.usable and not call.key:
                raise NotReadyError(Message("{title} is not ready: {status}.", title=info.title, status=status.text))
            with (device if info.kind == "local" else no_turn)(call.check):
                provider.warm_up(call)
            cutout = run_directly(provider, photo, parsed[info.id], call)
            outcomes.put(Outcome(info.id, cutout))
        except RmbgError as error:
            outcomes.put(Outcome(info.id, None, str(error), error.cost))
        except Exception:  # a bug in one provider must not lose the results of the others
            log.exception("%s failed", info.id)
            text = Message("{title} failed because of an internal error; see the log.", title=info.title)
            outcomes.put(Outcome(info.id, None, text))

    def run_all() -> Iterator[Outcome]:
        pool = ThreadPoolExecutor(len(providers), thread_name_prefix="compare")
        try:
            pool.submit(list, map(run_one, [p for p in providers if p.info.kind == "local"]))
            for remote in (p for p in providers if p.info.kind == "remote"):
                pool.submit(run_one, remote)
            for _ in providers:
                yield outcomes.get()
        finally:
            token.cancel(wait=False)
            pool.shutdown(wait=False)

    return run_all()
