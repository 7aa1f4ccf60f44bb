"""Runs providers on a data set, records their results in a journal, and scores the mattes."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import reduce
from typing import Any, Literal

import numpy as np

from rmbg.benchmark.dataset import Dataset, Sample
from rmbg.benchmark.journal import Journal, State
from rmbg.benchmark.summary import listed
from rmbg.billing.cost import Cost, dollars
from rmbg.billing.quote import Estimate, estimate
from rmbg.errors import CancelledError, InputError, NoSubjectError, OutputError, RmbgError
from rmbg.matting.matte import to_bytes
from rmbg.metrics import quality
from rmbg.providers import Provider, find, ready_providers
from rmbg.providers.base import DeviceTurn, RequestContext, never_cancelled, no_progress, no_turn, run_directly
from rmbg.remove import keep_if_paid
from rmbg.runtime.cancellation import CancellationToken
from rmbg.runtime.messages import Message, joined, public_text
from rmbg.runtime.threads import cpu_count
from rmbg.settings import Settings

Stage = Literal["local", "remote", "scoring"]


@dataclass
class Job:
    """The pictures that one provider has to process, or the results that have to be scored.

    Attributes
    ----------
    count : int
    expected : float
        Expected seconds per picture, used until the first one is done.
    workers : int
        Number of pictures processed at the same time.
    stage : {"local", "remote", "scoring"}
        Local jobs run one after another, remote jobs in parallel to them, scoring when all others are done.
    done : int
    seconds : float
        Seconds that the pictures done so far took, added up.
    """

    count: int
    expected: float
    workers: int
    stage: Stage
    done: int = 0
    seconds: float = 0.0

    @property
    def seconds_left(self) -> float:
        per_picture = self.seconds / self.done if self.done else self.expected
        return max(0, self.count - self.done) * per_picture / self.workers


class ProgressTracker:
    """Combines the progress of several jobs into one fraction and one text. Thread-safe.

    Parameters
    ----------
    progress : callable (fraction, text)
        Called by `report`, in its thread.
    """

    def __init__(self, progress: Callable[[float | None, str], None]) -> None:
        self._progress, self._lock = progress, threading.Lock()
        self._jobs: dict[str, Job] = {}

    def add(self, title: str, count: int, expected: float, workers: int, stage: Stage) -> None:
        """Add a job, or replace the one with the same title."""
        with self._lock:
            self._jobs[title] = Job(count, expected, workers, stage)

    def advance(self, title: str, seconds: float) -> None:
        """Count one picture of a job as done, after `seconds`."""
        with self._lock:
            self._jobs[title].done += 1
            self._jobs[title].seconds += seconds

    def abandon(self, title: str) -> None:
        """Drop the remaining pictures of a job."""
        with self._lock:
            self._jobs[title].count = self._jobs[title].done

    def report(self) -> None:
        """Call `progress` with the fraction done, the unfinished jobs and the remaining time."""
        with self._lock:
            jobs = {title: replace(job) for title, job in self._jobs.items()}
        left: dict[Stage, list[float]] = {"local": [0.0], "remote": [0.0], "scoring": [0.0]}
        for job in jobs.values():
            left[job.stage].append(job.seconds_left)
        seconds = max(sum(left["local"]), *left["remote"]) + sum(left["scoring"])
        count, done = sum(job.count for job in jobs.values()), sum(min(job.done, job.count) for job in jobs.values())
        unfinished = {title: job for title, job in jobs.items() if job.done < job.count}
        running = {title: job for title, job in unfinished.items() if job.stage != "scoring"} or unfinished
        text = ", ".join(f"{title} {job.done} of {job.count}" for title, job in running.items())
        self._progress(done / count if count else 1.0, f"{text}, {format_duration(seconds)} left" if text else "Done")


def format_duration(seconds: float) -> str:
    """A rounded duration, such as ``about 40 s``, ``about 12 min`` or ``about 3 h``."""
    if seconds < 90:
        return f"about {max(1, round(seconds))} s"
    return f"about {round(seconds / 60)} min" if seconds < 5400 else f"about {round(seconds / 3600)} h"


log = logging.getLogger(__name__)

#: Concurrent requests to one remote service.
CONCURRENT_REQUESTS = 4

#: Consecutive failures after which a provider is abandoned.
MAX_FAILURES = 5

#: Seconds per picture that are expected from a provider without published seconds.
EXPECTED_SECONDS = 5.0

#: Cost of an error that carries none.
NO_COST = Cost(Decimal(0), "charged")


#: Title of the scoring job, and seconds per picture that are expected before the first one is done.
SCORING, SCORING_SECONDS = "Scoring", 0.5


class ProviderQueue:
    """Pictures that one provider has to process. Several threads may call `run` for a remote provider.

    Parameters
    ----------
    provider : Provider
    samples : list of Sample
    journal : Journal
        Receives the results.
    call : RequestContext
        Settings, key and cancellation of the calls, and the device, which is held while a local provider processes a picture.
    tracker : ProgressTracker
    halt : CancellationToken
        Ends the queue after the calls in flight.

    Attributes
    ----------
    workers : int
        Number of threads that may call `run` at the same time.
    """

    def __init__(
        self,
        provider: Provider,
        samples: list[Sample],
        journal: Journal,
        call: RequestContext,
        tracker: ProgressTracker,
        halt: CancellationToken,
    ) -> None:
        self.provider, self.remote = provider, provider.info.kind == "remote"
        self._pending, self._journal, self._call, self._tracker, self._halt = deque(samples), journal, call, tracker, halt
        self._failures = 0
        self.workers = CONCURRENT_REQUESTS if self.remote else 1
        info = provider.info
        tracker.add(info.title, len(samples), info.seconds or EXPECTED_SECONDS, self.workers, info.kind)

    def run(self) -> None:
        """Process pictures until the queue is empty, halted or cancelled, or the provider has failed too often."""
        warm = self.remote
        while self._failures < MAX_FAILURES:
            self._call.check()
            if self._halt.cancelled():
                return
            try:
                sample = self._pending.popleft()
            except IndexError:
                return
            if not warm:
                # The first call also loads and compiles the network, so the first picture is processed twice.
                warm = True
                self._process(sample, record=False)
                self._journal.update_conditions(self.provider.info.id)  # the weights are known now
            started = time.perf_counter()
            self._failures = 0 if self._process(sample) else self._failures + 1
            self._tracker.advance(self.provider.info.title, time.perf_counter() - started)
        self._tracker.abandon(self.provider.info.title)

    def _process(self, sample: Sample, *, record: bool = True) -> bool:
        """Process one picture and record the result in the journal unless `record` is False. False if the provider failed."""
        settings, name = self._call.settings, self.provider.info.id

        def add(state: State, **fields: Any) -> None:
            if record:
                self._journal.add(name, sample, state, **fields)

        try:
            photo = sample.photo(settings)
            sample.truth(settings)  # raises before a call is paid that could not be scored
            if self.remote:
                add("sent")
            cutout = run_directly(self.provider, photo, self.provider.info.parse_options({}), self._call)
        except RmbgError as error:
            cancelled, found_nothing = isinstance(error, CancelledError), isinstance(error, NoSubjectError)
            if self.remote or not cancelled:  # a cancelled picture without a charge is sent again by the next run
                text = public_text(str(error), shared=settings.shared)
                add("nothing" if found_nothing else "failed", cost=error.cost or NO_COST, message=text)
            if cancelled:
                raise
            return found_nothing or isinstance(error, InputError)  # an invalid picture is no failure of the provider
        except Exception:  # a bug in one provider must not end the run
            log.exception("%s failed", name)
            text = f"{self.provider.info.title} failed because of an internal error; see the log."
            add("failed", cost=Cost(None, "unknown") if self.remote else NO_COST, message=text)
            return False
        if record:
            how = {key: getattr(cutout, key) for key in ("cost", "engine", "device", "precision")}
            with keep_if_paid([cutout], settings):
                self._journal.save_matte(name, sample, to_bytes(cutout.matte))
                add("got", seconds=round(cutout.warm_seconds, 4), **how)
        return True


def run(
    dataset: Dataset,
    ids: Sequence[str],
    journal: Journal,
    *,
    settings: Settings | None = None,
    keys: Mapping[str, str] | None = None,
    retry: bool = False,
    progress: Callable[[float | None, str], None] = no_progress,
    cancelled: Callable[[], bool] = never_cancelled,
    device: DeviceTurn = no_turn,
) -> None:
    """Run all providers on the pictures without a result in `journal`, and score the results.

    Parameters
    ----------
    dataset : Dataset
    ids : sequence of str
        Ids of the providers.
    journal : Journal
        Receives each result at once. Existing results are neither computed nor paid for again.
    keys : mapping of provider id to key, optional
    retry : bool
        Send pictures to paid services again whose call failed or was interrupted and may have been charged. They may be
        charged twice.
    progress : callable (fraction, text)
        Called in the thread of the caller.
    cancelled : callable () -> bool
    device : callable (check) -> context manager
        Held while a local provider processes a picture. Waiting for it does not count as the provider's time.

    Raises
    ------
    NotReadyError
        If a provider cannot run. Nothing has been sent then.
    CancelledError
        If `cancelled` returned True. The results so far are kept.
    """
    settings = settings or Settings.from_environ()
    providers = ready_providers(ids, settings, keys)
    names = [provider.info.id for provider in providers]
    # `halt` ends the queues after the calls in flight, which may be paid for; `token` cancels these as well.
    halt, token = CancellationToken(), CancellationToken(cancelled)
    tracker = ProgressTracker(progress)
    workers = min(8, cpu_count())
    pending = {provider.info.id: pending_samples(dataset, provider, journal, retry=retry) for provider in providers}
    to_score = sum(len(samples) for samples in pending.values()) + len(unscored_results(dataset, names, journal))
    tracker.add(SCORING, to_score, SCORING_SECONDS, workers, "scoring")

    def provider_queue(provider: Provider) -> ProviderQueue:
        name = provider.info.id
        call = RequestContext(settings, (keys or {}).get(name), cancelled=token.cancelled, device=device)
        return ProviderQueue(provider, pending[name], journal, call, tracker, halt)

    def finish(futures: list[Future]) -> None:
        try:
            _wait_for(futures, tracker, halt, token)
        except BaseException as error:
            if not isinstance(error, Exception):
                token.cancel(wait=False)
            wait(futures)
            raise _final_error(error, futures, dataset, names, journal) from None

    queues = [provider_queue(provider) for provider in providers]
    remote = [each for each in queues if each.remote]
    with ThreadPoolExecutor(1 + sum(each.workers for each in remote)) as pool:
        local = pool.submit(list, map(ProviderQueue.run, [each for each in queues if not each.remote]))
        finish([local, *(pool.submit(each.run) for each in remote for _ in range(each.workers))])
    unscored = unscored_results(dataset, names, journal)
    tracker.add(SCORING, len(unscored), SCORING_SECONDS, workers, "scoring")
    with ThreadPoolExecutor(workers) as pool:
        finish([pool.submit(_score, name, sample, journal, settings, tracker, halt) for name, sample in unscored])
    tracker.report()


def pending_samples(dataset: Dataset, provider: Provider, journal: Journal, *, retry: bool = False) -> list[Sample]:
    """Pictures that `provider` has to process: those without a result, and failures that are free to retry."""

    def is_pending(sample: Sample) -> bool:
        result = journal.result(provider.info.id, sample)
        if result is None:
            return True
        free = provider.info.kind == "local" or result.cost.usd == 0
        return not result.completed and (retry or free)

    return [sample for sample in dataset.samples if is_pending(sample)]


def unscored_results(dataset: Dataset, names: Sequence[str], journal: Journal) -> list[tuple[str, Sample]]:
    """Completed results without scores, as (provider, sample)."""
    return [
        (name, sample)
        for name in names
        for sample in dataset.samples
        if (result := journal.result(name, sample)) and result.completed and result.scores is None
    ]


def expected_charge(
    dataset: Dataset, ids: Sequence[str], journal: Journal, settings: Settings, *, retry: bool = False
) -> Estimate:
    """Expected charge for the pending pictures."""
    providers = [find(name) for name in dict.fromkeys(ids)]
    return estimate([(p.info, len(pending_samples(dataset, p, journal, retry=retry))) for p in providers], settings)


def _score(
    name: str, sample: Sample, journal: Journal, settings: Settings, tracker: ProgressTracker, halt: CancellationToken
) -> None:
    """Score one result; without a subject, an empty matte is scored."""
    if halt.cancelled():
        return
    started = time.perf_counter()
    result, truth = journal.result(name, sample), sample.truth(settings)
    found = result is not None and result.state == "got"
    matte = journal.matte(name, sample).astype(np.float32) / np.float32(255) if found else np.zeros_like(truth)
    scores = quality.measure(matte, truth)
    journal.add_scores(name, sample, {i: None if value is None else round(value, 6) for i, value in scores.items()})
    tracker.advance(SCORING, time.perf_counter() - started)


def _final_error(
    error: BaseException, futures: list[Future], dataset: Dataset, names: Sequence[str], journal: Journal
) -> BaseException:
    """The error of a run that ended early, with the charges of all its calls in flight and not only of the first.

    Its message names the pictures that may have been charged without a result; the next run does not send them again.
    """
    errors = [future.exception() for future in futures if future.done() and not future.cancelled()]
    more = sum(isinstance(e, OutputError) and e.cost is not None for e in errors) - 1
    if isinstance(error, OutputError) and more > 0:
        return OutputError(f"{error} {more} more {'result is' if more == 1 else 'results are'} kept in the same folder.")
    if not isinstance(error, CancelledError):
        return error
    unknown = [e.reserved for e in errors if isinstance(e, RmbgError) and e.reserved is not None]
    known = [e.cost.usd for e in errors if isinstance(e, CancelledError) and e.cost is not None and e.cost.usd is not None]
    sentences: list[str] = [Message("Stopped.")]
    if unknown:
        sentences.append(Message("You may have been charged {usd}.", usd=dollars(sum(unknown, Decimal(0)))))
    if any(known):
        sentences.append(Message("Calls without a result cost {usd}.", usd=dollars(sum(known, Decimal(0)))))
    sentences.append(Message("The results so far are kept, and the next run resumes from there."))
    uncertain = [
        f"{find(name).info.title}: {listed([result.id for result in results])}"
        for name in names
        if (results := [result for result in journal.results(name, dataset.samples) if result.possibly_charged])
    ]
    if uncertain:
        pictures = "; ".join(uncertain)
        sentences.append(Message("It leaves out those that may have been charged: {pictures}.", pictures=pictures))
    return CancelledError(reduce(joined, sentences))


def _wait_for(futures: list[Future], tracker: ProgressTracker, halt: CancellationToken, token: CancellationToken) -> None:
    """Wait for `futures` and report progress; the first error, or a cancelled `token`, halts all of them."""
    waiting: set[Future] = set(futures)
    try:
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            token.check()
            tracker.report()
    finally:
        if waiting:
            halt.cancel(wait=False)
            for future in waiting:
                future.cancel()
