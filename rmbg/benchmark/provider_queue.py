"""Queue of the pictures that one provider has to process."""

from __future__ import annotations

import logging
import queue
import time
from decimal import Decimal

from rmbg.benchmark.dataset import Sample
from rmbg.benchmark.journal import Journal
from rmbg.benchmark.progress import ProgressTracker
from rmbg.billing.cost import Cost
from rmbg.cancellation import CancellationToken
from rmbg.errors import CancelledError, InputError, NoSubjectError, RmbgError
from rmbg.matting.matte import to_bytes
from rmbg.message import public_text
from rmbg.providers import Provider
from rmbg.providers.base import DeviceTurn, RequestContext, run_directly
from rmbg.providers.delivery import keep_if_paid

log = logging.getLogger(__name__)

#: Concurrent requests to one remote service.
CONCURRENT_REQUESTS = 4

#: Consecutive failures after which a provider is abandoned.
MAX_FAILURES = 5

#: Seconds per picture that are expected from a provider without published seconds.
EXPECTED_SECONDS = 5.0

#: Cost of an error that carries none.
NO_COST = Cost(Decimal(0), "charged")


class ProviderQueue:
    """Pictures that one provider has to process. Several threads may call `run` for a remote provider.

    Parameters
    ----------
    provider : Provider
    samples : list of Sample
    journal : Journal
        Receives the results.
    call : RequestContext
        Settings, key and cancellation of the calls.
    tracker : ProgressTracker
    device : callable (check) -> context manager
        Held while the provider processes a picture.
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
        device: DeviceTurn,
        halt: CancellationToken,
    ) -> None:
        self.provider, self._journal, self._call, self._tracker = provider, journal, call, tracker
        self._device, self._halt = device, halt
        self._pending: queue.SimpleQueue[Sample] = queue.SimpleQueue()
        for sample in samples:
            self._pending.put(sample)
        self._failures = 0
        info = provider.info
        self.workers = 1 if info.kind == "local" else CONCURRENT_REQUESTS
        tracker.add(info.title, len(samples), info.seconds or EXPECTED_SECONDS, self.workers, info.kind)

    def run(self) -> None:
        """Process pictures until the queue is empty, halted or cancelled, or the provider has failed too often."""
        warm = self.provider.info.kind == "remote"
        while self._failures < MAX_FAILURES:
            self._call.check()
            if self._halt.cancelled():
                return
            try:
                sample = self._pending.get_nowait()
            except queue.Empty:
                return
            if not warm:
                # The first call also loads and compiles the network, so the first picture is processed twice.
                warm = True
                self._process(sample, record=False)
                self._journal.update_conditions(self.provider.info.id)  # the weights are known now
            started = time.perf_counter()
            if self._process(sample):
                self._failures = 0
            else:
                self._failures += 1
            self._tracker.advance(self.provider.info.title, time.perf_counter() - started)
        self._tracker.abandon(self.provider.info.title)

    def _process(self, sample: Sample, *, record: bool = True) -> bool:
        """Process one picture and record the result in the journal unless `record` is False. False if the provider failed."""
        settings, name = self._call.settings, self.provider.info.id
        try:
            photo = sample.photo(settings)
            sample.truth(settings)  # raises before a call is paid that could not be scored
            if record and self.provider.info.kind == "remote":
                self._journal.add(name, sample, "sent")
            with self._device(self._call.check):
                cutout = run_directly(self.provider, photo, self.provider.info.parse_options({}), self._call)
        except CancelledError as error:
            if record and self.provider.info.kind == "remote":
                # Without a charge the next run sends the photo again.
                self._journal.add(name, sample, "failed", cost=error.cost or NO_COST, message=str(error))
            raise
        except NoSubjectError as error:
            if record:
                self._journal.add(
                    name, sample, "nothing", cost=error.cost or NO_COST, message=public_text(str(error), shared=settings.shared)
                )
            return True
        except RmbgError as error:
            if record:
                self._journal.add(
                    name, sample, "failed", cost=error.cost or NO_COST, message=public_text(str(error), shared=settings.shared)
                )
            return isinstance(error, InputError)  # an invalid picture is no failure of the provider
        except Exception:  # a bug in one provider must not end the run
            log.exception("%s failed", name)
            if record:
                cost = NO_COST if self.provider.info.kind == "local" else Cost(None, "unknown")
                text = f"{self.provider.info.title} failed because of an internal error; see the log."
                self._journal.add(name, sample, "failed", cost=cost, message=text)
            return False
        if record:
            with keep_if_paid([cutout], settings):
                self._journal.save_matte(name, sample, to_bytes(cutout.matte))
                self._journal.add(
                    name,
                    sample,
                    "got",
                    cost=cutout.cost,
                    seconds=round(cutout.warm_seconds, 4),
                    engine=cutout.engine,
                    device=cutout.device,
                    precision=cutout.precision,
                )
        return True
