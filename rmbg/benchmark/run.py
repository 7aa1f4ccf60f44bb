"""Runs providers on a data set and scores their mattes.

Local providers run one after another, remote ones in parallel, and each result is written to the journal at once. Scoring
starts when all providers are done, because it uses all cores and would slow down a local network whose time is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from decimal import Decimal
from functools import reduce

import numpy as np

from rmbg.benchmark.dataset import Dataset, Sample
from rmbg.benchmark.journal import Journal
from rmbg.benchmark.progress import ProgressTracker
from rmbg.benchmark.provider_queue import ProviderQueue
from rmbg.benchmark.summary import listed
from rmbg.billing.cost import dollars
from rmbg.billing.quote import Estimate, estimate
from rmbg.cancellation import CancellationToken
from rmbg.errors import CancelledError, NotReadyError, OutputError, RmbgError
from rmbg.message import Message, joined
from rmbg.metrics import quality
from rmbg.providers import Provider, find
from rmbg.providers.base import DeviceTurn, RequestContext, never_cancelled, no_progress, no_turn
from rmbg.settings import Settings
from rmbg.threads import cpu_count

#: Title of the scoring job, and seconds per picture that are expected before the first one is done.
SCORING, SCORING_SECONDS = "Scoring", 0.5


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

    def call(provider: Provider) -> RequestContext:
        return RequestContext(settings, (keys or {}).get(provider.info.id), cancelled=token.cancelled, device=device)

    def provider_queue(provider: Provider) -> ProviderQueue:
        turn = device if provider.info.kind == "local" else no_turn
        return ProviderQueue(provider, pending[provider.info.id], journal, call(provider), tracker, turn, halt)

    queues = [provider_queue(provider) for provider in providers]
    local = [each for each in queues if each.provider.info.kind == "local"]
    remote = [each for each in queues if each.provider.info.kind == "remote"]
    with ThreadPoolExecutor(1 + sum(each.workers for each in remote)) as pool:
        futures: list[Future] = [pool.submit(_run_in_sequence, local)]
        futures += [pool.submit(each.run) for each in remote for _ in range(each.workers)]
        try:
            _wait_for(futures, tracker, halt, token)
        except BaseException as error:
            if not isinstance(error, Exception):
                token.cancel(wait=False)
            wait(futures)
            raise _final_error(error, futures, dataset, names, journal) from None
    unscored = unscored_results(dataset, names, journal)
    tracker.add(SCORING, len(unscored), SCORING_SECONDS, workers, "scoring")
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(_score, name, sample, journal, settings, tracker, halt) for name, sample in unscored]
        try:
            _wait_for(futures, tracker, halt, token)
        except CancelledError as error:
            raise _final_error(error, futures, dataset, names, journal) from None
    tracker.report()


def ready_providers(ids: Sequence[str], settings: Settings, keys: Mapping[str, str] | None = None) -> list[Provider]:
    """Find providers by id, without duplicates.

    Raises
    ------
    NotReadyError
        If one of them cannot run.
    """
    providers = list({(p := find(name, settings)).info.id: p for name in ids}.values())
    for provider in providers:
        status = provider.status(settings)
        if not status.usable and not (keys or {}).get(provider.info.id):
            raise NotReadyError(Message("{title} is not ready: {text}.", title=provider.info.title, text=status.text))
    return providers


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


def _run_in_sequence(queues: list[ProviderQueue]) -> None:
    for provider_queue in queues:
        provider_queue.run()


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
