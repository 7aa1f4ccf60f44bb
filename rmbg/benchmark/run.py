"""Providers over a data set: local ones one after the other, remote ones at the same time, everything kept as it comes.

First all answers, then all figures: measuring uses every core, and would spoil the seconds of a network that runs beside it.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from decimal import Decimal

import numpy as np

from rmbg.benchmark import metrics
from rmbg.benchmark.clock import Clock
from rmbg.benchmark.dataset import Dataset, Sample
from rmbg.benchmark.journal import Journal
from rmbg.cutout import Cost
from rmbg.errors import CancelledError, InputError, NoSubjectError, NotReadyError, RmbgError
from rmbg.matte import to_bytes
from rmbg.providers import Provider, find
from rmbg.providers.base import Call, never, silent
from rmbg.settings import Settings

log = logging.getLogger(__name__)

#: Requests at a time to one remote service.
AT_ONCE = 4

#: After this many failures in a row a provider is left alone: something is wrong that a next picture will not cure.
GIVE_UP = 5

#: What an error cost that says nothing of money.
NOTHING = Cost(Decimal(0), "charged")

#: What the clock calls the second part, and what it expects before it knows better.
MEASURING, MEASURING_SECONDS, EXPECTED_SECONDS = "Measuring", 0.5, 5.0


def run(
    dataset: Dataset,
    ids: Sequence[str],
    journal: Journal,
    *,
    settings: Settings | None = None,
    keys: Mapping[str, str] | None = None,
    retry: bool = False,
    progress: Callable[[float | None, str], None] = silent,
    cancelled: Callable[[], bool] = never,
) -> None:
    """Ask every provider for every picture that `journal` has no answer for, and measure the answers.

    Parameters
    ----------
    dataset : Dataset
    ids : sequence of str
        Providers.
    journal : Journal
        Gets every result as it comes; what it holds already is neither asked for nor paid for again.
    keys : mapping of provider id to key, optional
    retry : bool
        Whether to send to paid services again what failed and may have been charged, or what was on its way when an earlier
        run was killed: that may be charged twice.
    progress : callable (fraction, text)
        Called in this thread.
    cancelled : callable () -> bool

    Raises
    ------
    NotReadyError
        If a provider cannot run; before anything is sent.
    CancelledError
        If the user stopped it. What had come is kept.
    """
    settings = settings or Settings.from_environ()
    chosen = ready(ids, settings, keys)
    names = [provider.info.id for provider in chosen]
    work = {provider.info.id: left(dataset, provider, journal, retry=retry) for provider in chosen}
    stop = threading.Event()
    clock = Clock(progress)
    workers = max(1, min(8, os.cpu_count() or 1))
    asked = sum(len(samples) for samples in work.values())
    clock.plan(MEASURING, asked + len(unmeasured(dataset, names, journal)), MEASURING_SECONDS, workers, "after")

    def call(provider: Provider) -> Call:
        return Call(settings, (keys or {}).get(provider.info.id), cancelled=lambda: stop.is_set() or cancelled())

    lanes = [_Lane(provider, work[provider.info.id], journal, call(provider), clock) for provider in chosen]
    local = [lane for lane in lanes if lane.provider.info.kind == "local"]
    remote = [lane for lane in lanes if lane.provider.info.kind == "remote"]
    with ThreadPoolExecutor(1 + AT_ONCE * len(remote)) as pool:
        futures: list[Future] = [pool.submit(_one_after_the_other, local)]
        futures += [pool.submit(lane.work) for lane in remote for _ in range(AT_ONCE)]
        _finish(futures, clock, stop, cancelled)
    answers = unmeasured(dataset, names, journal)
    clock.plan(MEASURING, len(answers), MEASURING_SECONDS, workers, "after")
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(_score, name, sample, journal, settings, clock, stop) for name, sample in answers]
        _finish(futures, clock, stop, cancelled)
    clock.tell()


def ready(ids: Sequence[str], settings: Settings, keys: Mapping[str, str] | None = None) -> list[Provider]:
    """The providers of these ids, each once.

    Raises
    ------
    NotReadyError
        If one of them cannot run now.
    """
    chosen = list({(p := find(name, settings)).info.id: p for name in ids}.values())
    for provider in chosen:
        status = provider.status(settings)
        if not status.usable and not (keys or {}).get(provider.info.id):
            raise NotReadyError(f"{provider.info.title} is not ready: {status.text}.")
    return chosen


def left(dataset: Dataset, provider: Provider, journal: Journal, *, retry: bool = False) -> list[Sample]:
    """The pictures that `provider` still has to be asked for."""

    def open_question(sample: Sample) -> bool:
        result = journal.result(provider.info.id, sample)
        if result is None:
            return True
        free = provider.info.kind == "local" or result.cost.usd == 0
        return not result.answered and (retry or free)

    return [sample for sample in dataset.samples if open_question(sample)]


def unmeasured(dataset: Dataset, names: Sequence[str], journal: Journal) -> list[tuple[str, Sample]]:
    """The answers that have no figures yet, as (provider, sample)."""
    return [
        (name, sample)
        for name in names
        for sample in dataset.samples
        if (result := journal.result(name, sample)) and result.answered and result.scores is None
    ]


def expected_usd(dataset: Dataset, ids: Sequence[str], journal: Journal, *, retry: bool = False) -> tuple[Decimal, list[str]]:
    """What is expected to be charged for what is left, and the titles of services whose price nobody knows."""
    total, unknown = Decimal(0), []
    for name in dict.fromkeys(ids):
        info = find(name).info
        count = len(left(dataset, find(name), journal, retry=retry))
        if info.kind == "local" or not count:
            continue
        if info.price_usd is None:
            unknown.append(info.title)
        else:
            total += count * info.price_usd
    return total, unknown


class _Lane:
    """One provider and the pictures that wait for it; several threads may work in the lane of a remote one."""

    def __init__(self, provider: Provider, samples: list[Sample], journal: Journal, call: Call, clock: Clock) -> None:
        self.provider, self.journal, self.call, self.clock = provider, journal, call, clock
        self.waiting: queue.SimpleQueue[Sample] = queue.SimpleQueue()
        for sample in samples:
            self.waiting.put(sample)
        self.failures = 0
        workers = 1 if provider.info.kind == "local" else AT_ONCE
        clock.plan(provider.info.title, len(samples), provider.info.seconds or EXPECTED_SECONDS, workers, provider.info.kind)

    def work(self) -> None:
        warm = self.provider.info.kind == "remote"
        while self.failures < GIVE_UP:
            self.call.check()
            try:
                sample = self.waiting.get_nowait()
            except queue.Empty:
                return
            if not warm:
                # Loading a network and compiling belong to no picture, so the first one is done twice.
                warm = True
                self._ask(sample, keep=False)
            started = time.perf_counter()
            if self._ask(sample):
                self.failures = 0
            else:
                self.failures += 1
            self.clock.tick(self.provider.info.title, time.perf_counter() - started)
        self.clock.give_up(self.provider.info.title)

    def _ask(self, sample: Sample, *, keep: bool = True) -> bool:
        """One picture; what came of it goes to the journal. False if the provider failed."""
        settings, name = self.call.settings, self.provider.info.id
        try:
            photo = sample.photo(settings)
            sample.truth(settings)  # nothing is paid for that could not be measured
            if keep and self.provider.info.kind == "remote":
                self.journal.add(name, sample, "sent")
            cutout = self.provider.cut(photo, self.provider.info.parse_options({}), self.call)
        except CancelledError:
            raise
        except NoSubjectError as error:
            if keep:
                self.journal.add(name, sample, "nothing", cost=error.cost or NOTHING, message=str(error))
            return True
        except RmbgError as error:
            if keep:
                self.journal.add(name, sample, "failed", cost=error.cost or NOTHING, message=str(error))
            return isinstance(error, InputError)  # the picture's fault, not the provider's
        except Exception:  # a fault of ours in one provider must not take the others' answers away
            log.exception("%s failed", name)
            if keep:
                cost = NOTHING if self.provider.info.kind == "local" else Cost(None, "unknown")
                text = f"{self.provider.info.title} failed for a reason that the log has."
                self.journal.add(name, sample, "failed", cost=cost, message=text)
            return False
        if keep:
            self.journal.save_matte(name, sample, to_bytes(cutout.matte))
            self.journal.add(
                name,
                sample,
                "got",
                cost=cutout.cost,
                seconds=round(cutout.seconds, 4),
                engine=cutout.engine,
                device=cutout.device,
                precision=cutout.precision,
            )
        return True


def _one_after_the_other(lanes: list[_Lane]) -> None:
    for lane in lanes:
        lane.work()


def _score(name: str, sample: Sample, journal: Journal, settings: Settings, clock: Clock, stop: threading.Event) -> None:
    """Measure one answer; finding nothing is an empty matte."""
    if stop.is_set():
        return
    started = time.perf_counter()
    result, truth = journal.result(name, sample), sample.truth(settings)
    found = result is not None and result.state == "got"
    matte = journal.matte(name, sample).astype(np.float32) / np.float32(255) if found else np.zeros_like(truth)
    scores = metrics.measure(matte, truth)
    journal.add_scores(name, sample, {i: None if value is None else round(value, 6) for i, value in scores.items()})
    clock.tick(MEASURING, time.perf_counter() - started)


def _finish(futures: list[Future], clock: Clock, stop: threading.Event, cancelled: Callable[[], bool]) -> None:
    """Wait for `futures` and tell how it goes; the first error, or the user, stops them all."""
    waiting: set[Future] = set(futures)
    try:
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            if cancelled():
                raise CancelledError("Stopped.")
            clock.tell()
    except CancelledError as error:  # that of a service says what may have been charged
        raise CancelledError(f"{error} What had come is kept, and the next run goes on from there.") from None
    finally:
        if waiting:
            stop.set()
            for future in waiting:
                future.cancel()
