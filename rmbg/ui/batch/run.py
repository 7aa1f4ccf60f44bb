"""Batch of a visitor: photos, results, and runs in a thread of their own, which a closed page does not end."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np

from rmbg.batch.entry import Entry
from rmbg.batch.hooks import Hooks
from rmbg.batch.job import Job
from rmbg.batch.manifest import Manifest
from rmbg.batch.matte_cache import MatteCache
from rmbg.batch.outcome import Outcome
from rmbg.batch.recipe import Recipe
from rmbg.billing.cost import Cost
from rmbg.cancellation import CancellationToken
from rmbg.cutout import Cutout
from rmbg.errors import CancelledError, NotReadyError, OutputError, RmbgError
from rmbg.images.photo import open_photo
from rmbg.matting.finish import finish
from rmbg.settings import Settings
from rmbg.ui.batch.mattes import Mattes
from rmbg.ui.batch.output import VisitorOutput
from rmbg.ui.batch.request import Request
from rmbg.ui.batch.row import Row
from rmbg.ui.batch.rows import Rows
from rmbg.ui.batch.texts import visible
from rmbg.ui.batch.thumbnail import save_thumbnail
from rmbg.ui.batch.uploads import UploadSource
from rmbg.ui.components.photo_input import Upload
from rmbg.ui.lanes import BATCH_LOCAL, BATCH_SERVICES, DEVICE
from rmbg.ui.shutdown import BATCH_NAME
from rmbg.ui.storage import storage

log = logging.getLogger(__name__)

#: Batches of all visitors that may run at a time, whose photos take turns, and concurrent photos of a local one.
MAX_RUNNING, LOCAL_JOBS = 24, 2

BUSY = "The server is busy with other batches. Try again in a few minutes."

INTERNAL_ERROR = "An internal error occurred. Press Remove all backgrounds to continue with the other photos."


class Batch:
    """Photos of one visitor and their results, which are kept in a folder.

    Parameters
    ----------
    uploads : sequence of Upload
    folder : Path
        Empty folder for manifest, results and mattes.
    owner : callable () -> str
        Returns the owner of the files in `Storage`.
    spend : callable (provider, cost)
        Called with the cost of each call.

    Raises
    ------
    InputError
        If the uploads contain no pictures or exceed the limits.
    """

    def __init__(
        self, uploads: Sequence[Upload], folder: Path, owner: Callable[[], str], spend: Callable[[str, Cost | None], None]
    ) -> None:
        settings = Settings.from_environ()
        self.uploads, self.folder = list(uploads), folder
        self._source = UploadSource(uploads, settings)
        self._entries = {entry.name: entry for entry in self._source.entries()}
        self._owner, self._spend = owner, spend
        self._output = VisitorOutput(folder, owner)
        self._mattes = Mattes(self._output.state / "cutouts")
        self._rows = Rows(self._entries, folder)
        self._token = CancellationToken()
        self._token.end()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.message, self.halted = "", False
        self.pending: Request | None = None  # waits for the consent of the visitor
        self.shown: tuple[int, bool] | None = None  # revision and filter of the table on the page

    @property
    def rows(self) -> list[Row]:
        """Rows in the order of the uploads."""
        return self._rows.all()

    @property
    def revision(self) -> int:
        """Number that is incremented with each change of a row."""
        return self._rows.revision

    @property
    def running(self) -> bool:
        """True until the current run has ended."""
        return self._token.open

    @property
    def stopping(self) -> bool:
        """True if the current run was stopped and has not ended yet."""
        return self.running and self._token.cancelled()

    @property
    def doubtful(self) -> frozenset[str]:
        """Names of the photos for which another provider may have a better result."""
        return frozenset(row.name for row in self.rows if row.doubtful)

    def has(self, uploads: Sequence[Upload]) -> bool:
        """True if the batch consists of these uploads."""
        return [upload.path for upload in uploads] == [upload.path for upload in self.uploads]

    def prepare(self, recipe: Recipe, names: Collection[str] | None = None, max_cost: Decimal | None = None) -> Request:
        """Return a run of all photos, or those in `names`, with its expected charge, which is at most `max_cost`.

        Raises
        ------
        RmbgError
            If the batch runs already, or its folder cannot be written.
        """
        if self.running:
            raise NotReadyError("The batch is still running. Wait, or stop it first.")
        chosen = None if names is None else frozenset(names)
        settings = Settings.from_environ()
        with self._job(chosen, settings) as job:
            plan = job.plan(recipe)
            return Request(recipe, chosen, len(plan.tasks), plan.sends, job.expected_cost(plan, recipe, max_cost))

    def start(self, request: Request, key: str | None = None) -> None:
        """Start a run in the background; its cost never exceeds the estimate of `request`.

        Raises
        ------
        NotReadyError
            If too many batches run on this server, or this one runs already.
        """
        with _START_LOCK:
            if self.running:
                raise NotReadyError("The batch is still running. Wait, or stop it first.")
            if sum(batch.running for batch in _BATCHES) >= MAX_RUNNING:
                raise NotReadyError(BUSY)
            self._token = CancellationToken()
            self._token.begin(paid=bool(request.estimate))
            _BATCHES.add(self)
        self.message, self.halted, self.pending = "", False, None
        self._thread = threading.Thread(target=self._work, args=(request, key), name=BATCH_NAME, daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        """Stop the current run; photos that are being paid for are finished."""
        self._token.cancel(wait=False)

    def join(self) -> None:
        """Wait for the end of the current run."""
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        """Stop the run and remove all files; a running thread removes the rest when it ends."""
        self._closed = True
        self.cancel()
        self._rows.discard()
        storage().discard(self.folder)

    def result(self, row: Row) -> tuple[str, bytes]:
        """Return name and content of a result.

        Raises
        ------
        RmbgError
            If it was removed.
        """
        try:
            return row.file, (self.folder / row.file).read_bytes()
        except OSError:
            raise RmbgError("The results were removed to make room for newer ones. Start the batch again.") from None

    def cutout(self, name: str) -> tuple[Cutout, Upload]:
        """Return the cutout of a photo, restored from its matte, and the photo as an upload; no provider runs.

        Raises
        ------
        RmbgError
            If there is no result, or it was removed.
        """
        row, entry = self._rows.get(name), self._entries.get(name)
        if row is None or entry is None or not row.file:
            raise RmbgError("There is no result of this photo. Start the batch first.")
        data = self._source.read(entry)
        photo = open_photo(data, name=entry.name)
        matte = self._matte(name)
        if matte is None or matte.shape != (photo.height, photo.width):
            raise RmbgError("The result was removed to make room for newer ones. Start the batch again.")
        alpha, foreground = finish(photo, matte.astype(np.float32) / np.float32(255), own_alpha_applied=True)
        cost = row.cost or Cost(None, "unknown")
        cutout = Cutout(photo, alpha, foreground, row.provider, row.seconds, cost, notes=photo.notes, confidence=row.confidence)
        path = self._source.path(entry)
        return cutout, Upload(path or storage().store(data, Path(entry.name).name), entry.name)

    def _matte(self, name: str) -> np.ndarray | None:
        """Return the matte of a result, uint8 (H, W), or None if it was removed."""
        return self._mattes.load(self._number(name))

    def _earlier_matte(self, name: str, recipe: Recipe) -> np.ndarray | None:
        """Return the matte of a photo if its result has the same provider and options, for another rendering."""
        row = self._rows.previous(name)
        return None if row is None or row.inference != recipe.inference else self._matte(name)

    def _number(self, name: str) -> int:
        return list(self._entries).index(name)

    @contextlib.contextmanager
    def _job(self, names: frozenset[str] | None, settings: Settings) -> Iterator[Job]:
        """Open the manifest; not for use by two threads."""
        entries: list[Entry] = [entry for name, entry in self._entries.items() if names is None or name in names]
        state = self._output.state
        try:
            with Manifest(state / "manifest.sqlite3") as manifest:
                self._output.prepare()
                yield Job(self._source, self._output, entries, manifest, settings, MatteCache([state / "mattes"]))
        except OutputError as error:
            raise OutputError(visible(str(error))) from None

    def _work(self, request: Request, key: str | None) -> None:
        recipe, token = request.recipe, self._token
        try:
            settings = Settings.from_environ()
            with self._job(request.names, settings) as job:
                plan = job.plan(recipe)
                results = {task.entry.name: task.output for task in plan.tasks}
                self._rows.begin(results, recipe)
                progress = job.run(
                    plan,
                    recipe,
                    jobs=None if recipe.paid else LOCAL_JOBS,
                    max_cost=self._limit(request, job),
                    report=lambda _, outcome: self._report(outcome, recipe, results),
                    cancelled=token.cancelled,
                    hooks=self._hooks(recipe, key),
                )
            self.message, self.halted = visible(progress.halted), bool(progress.halted)
        except CancelledError:
            self.message = "Stopped. The results so far are kept. Press Remove all backgrounds to continue."
        except RmbgError as error:
            self.message, self.halted = visible(str(error)), True
        except Exception:
            log.exception("A batch failed")
            self.message, self.halted = INTERNAL_ERROR, True
        finally:
            self._rows.end()
            if self._closed:
                shutil.rmtree(self.folder, ignore_errors=True)
            token.end(self.message)

    def _report(self, outcome: Outcome | None, recipe: Recipe, results: dict[str, str]) -> None:
        if outcome is not None:
            self._spend(recipe.provider.info.id, outcome.cost)
            self._rows.report(outcome, recipe, results)

    def _limit(self, request: Request, job: Job) -> Decimal | None:
        """Return the limit of the charges of all runs; None if the price is unknown, which the visitor has accepted."""
        if not request.recipe.paid or request.estimate.unknown:
            return None
        return job.manifest.spent()[0] + request.estimate.usd

    def _hooks(self, recipe: Recipe, key: str | None) -> Hooks:
        lane = BATCH_SERVICES if recipe.paid else BATCH_LOCAL
        return Hooks(
            key,
            lambda check: lane.turn(check, bounded=False),
            lambda check: DEVICE.turn(check, bounded=False),
            lambda name: self._earlier_matte(name, recipe),
            lambda name, cutout: self._keep(name, cutout, recipe),
        )

    def _keep(self, name: str, cutout: Cutout, recipe: Recipe) -> None:
        """Store the matte and a thumbnail of a new cutout."""
        if self._closed:
            raise CancelledError("Stopped.")
        self._mattes.store(self._number(name), cutout)
        self._rows.set_thumbnail(name, save_thumbnail(cutout, recipe.background, self._owner()))


#: Batches that run, or have run.
_BATCHES: weakref.WeakSet[Batch] = weakref.WeakSet()
_START_LOCK = threading.Lock()
