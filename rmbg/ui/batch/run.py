"""A batch of one visitor: its photos, their rows, and runs in a thread of their own, which a closed page does not end."""

from __future__ import annotations

import contextlib
import logging
import re
import shutil
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from rmbg import files
from rmbg.batch.entry import Entry
from rmbg.batch.hooks import Hooks
from rmbg.batch.job import Job
from rmbg.batch.manifest import Manifest, State
from rmbg.batch.matte_cache import MatteCache
from rmbg.batch.outcome import Outcome
from rmbg.batch.plan import Plan
from rmbg.batch.progress import Progress
from rmbg.batch.recipe import Recipe
from rmbg.billing.cost import Cost
from rmbg.billing.quote import Estimate
from rmbg.cancellation import CancellationToken
from rmbg.cutout import Cutout, confidence_level
from rmbg.errors import CancelledError, NotReadyError, OutputError, RmbgError
from rmbg.images import encode
from rmbg.images.photo import open_photo
from rmbg.matting.finish import finish
from rmbg.matting.matte import to_bytes
from rmbg.message import Message
from rmbg.providers.builtin import LOW_CONFIDENCE_NOTE
from rmbg.settings import Settings
from rmbg.ui.batch.output import VisitorOutput
from rmbg.ui.batch.uploads import UploadSource
from rmbg.ui.components.photo_input import Upload
from rmbg.ui.lanes import BATCH_LOCAL, BATCH_SERVICES, DEVICE
from rmbg.ui.messages import for_visitor
from rmbg.ui.shrink import shrink
from rmbg.ui.shutdown import BATCH_NAME
from rmbg.ui.storage import storage
from rmbg.ui.workspace import workspace

log = logging.getLogger(__name__)

#: Longest side of a thumbnail in pixels.
THUMBNAIL_SIDE = 144

#: Batches of all visitors that may run at a time, whose photos take turns, and concurrent photos of a local one.
MAX_RUNNING, LOCAL_JOBS = 24, 2

BUSY = "The server is busy with other batches. Try again in a few minutes."

INTERNAL_ERROR = "An internal error occurred. Press Remove all backgrounds to continue with the other photos."


@dataclass(frozen=True)
class Row:
    """State of one photo, as the page and the API show it.

    Attributes
    ----------
    name : str
    state : str
        As in the manifest; ``new`` for a photo that waits.
    provider : str
        Id of the provider of the last attempt.
    seconds : float
    cost : Cost or None
        Of all calls for this photo; None if there was none.
    confidence : float or None
    message : str
    systematic : bool
        True for a failure of the provider, which another one may not have.
    thumbnail, file : str
        Path of the thumbnail, and name of the result in the folder; empty without a result.
    """

    name: str
    state: State = "new"
    provider: str = ""
    seconds: float = 0.0
    cost: Cost | None = None
    confidence: float | None = None
    message: str = ""
    systematic: bool = False
    thumbnail: str = ""
    file: str = ""

    @property
    def doubtful(self) -> bool:
        """True if another provider may have a better result."""
        return confidence_level(self.confidence) == "low" or self.state in ("nothing", "charged") or self.systematic

    def summary(self) -> dict[str, Any]:
        """Return the row as a JSON object, with the fields of ``--json`` and the name of the file in the archive."""
        usd = None if self.cost is None or self.cost.usd is None else float(self.cost.usd)
        return {
            "name": self.name,
            "state": self.state,
            "provider": self.provider,
            "seconds": round(self.seconds, 3),
            "cost": {"usd": usd, "basis": "" if self.cost is None else self.cost.basis},
            "confidence": None if self.confidence is None else round(self.confidence, 3),
            "message": self.message,
            "file": self.file,
        }


@dataclass(frozen=True)
class Request:
    """One run of a batch: what is asked for, and what it is expected to cost.

    Attributes
    ----------
    recipe : Recipe
    names : collection of str or None
        Photos to process; None for all.
    tasks, photos : int
        Photos to process, and photos among them that are sent to a service.
    estimate : Estimate
        Expected charge.
    """

    recipe: Recipe
    names: frozenset[str] | None
    tasks: int
    photos: int
    estimate: Estimate


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
        self._lock = threading.Lock()
        self._rows = {name: Row(name) for name in self._entries}
        self._previous: dict[str, Row] = {}
        self._thumbnails: dict[str, str] = {}
        self._token = CancellationToken()
        self._token.end()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.message, self.halted = "", False
        self.revision = 0  # incremented with each change of a row
        self.pending: Request | None = None  # waits for the consent of the visitor
        self.shown: tuple[int, bool] | None = None  # revision and filter of the table on the page

    @property
    def rows(self) -> list[Row]:
        """Rows in the order of the uploads."""
        with self._lock:
            return list(self._rows.values())

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

    def prepare(self, recipe: Recipe, names: Collection[str] | None = None) -> Request:
        """Return a run of all photos, or those in `names`, with its expected charge.

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
            return Request(recipe, chosen, len(plan.tasks), plan.sends, job.expected_cost(plan, recipe))

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
        for row in self.rows:
            _discard(row.thumbnail)
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
        try:
            with Image.open(self._matte_path(name), formats=["PNG"]) as image:
                return np.array(image)
        except (OSError, ValueError):
            return None

    def _earlier_matte(self, name: str, recipe: Recipe) -> np.ndarray | None:
        """Return the matte of a photo if it has a result of the same provider, whose options are always the same."""
        with self._lock:
            row = self._previous.get(name)
        return None if row is None or row.provider != recipe.provider.info.id else self._matte(name)

    def _matte_path(self, name: str) -> Path:
        return self._output.state / "cutouts" / f"{list(self._entries).index(name)}.png"

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
            raise OutputError(_visible(str(error))) from None

    def _work(self, request: Request, key: str | None) -> None:
        recipe, token = request.recipe, self._token
        try:
            settings = Settings.from_environ()
            with self._job(request.names, settings) as job:
                plan = job.plan(recipe)
                self._begin(plan, recipe)
                progress = job.run(
                    plan,
                    recipe,
                    jobs=None if recipe.paid else LOCAL_JOBS,
                    max_cost=self._limit(request, job),
                    report=lambda _, outcome: self._report(recipe, plan, outcome),
                    cancelled=token.cancelled,
                    hooks=self._hooks(recipe, key),
                )
            self._finish(progress)
        except CancelledError:
            self.message = "Stopped. The results so far are kept. Press Remove all backgrounds to continue."
        except RmbgError as error:
            self.message, self.halted = _visible(str(error)), True
        except Exception:
            log.exception("A batch failed")
            self.message, self.halted = INTERNAL_ERROR, True
        finally:
            self._restore_waiting()
            if self._closed:
                shutil.rmtree(self.folder, ignore_errors=True)
            token.end(self.message)

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
        path = self._matte_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, encode.encode(to_bytes(cutout.matte), encode.FORMATS["png"], quick=True))
        pixels = shrink(cutout, THUMBNAIL_SIDE).render(recipe.background)
        thumbnail = storage().new_file("thumbnail.webp")
        thumbnail.write_bytes(encode.encode(pixels, encode.FORMATS["webp-lossy"], quality=80, quick=True))
        storage().keep(self._owner(), thumbnail)
        with self._lock:
            self._thumbnails[name] = str(thumbnail)

    def _begin(self, plan: Plan, recipe: Recipe) -> None:
        """Set the rows of the tasks to waiting; the rows of a result stay for the case that the new attempt fails."""
        with self._lock:
            for task in plan.tasks:
                row = self._rows[task.entry.name]
                if row.file:
                    self._previous[row.name] = row
                self._rows[row.name] = replace(Row(row.name), cost=row.cost, provider=recipe.provider.info.id)
            self.revision += 1

    def _report(self, recipe: Recipe, plan: Plan, outcome: Outcome | None) -> None:
        if outcome is None:
            return
        provider = recipe.provider.info.id
        self._spend(provider, outcome.cost)
        with self._lock:
            previous = self._previous.pop(outcome.name, None)
            thumbnail = self._thumbnails.pop(outcome.name, "")
            row = self._rows[outcome.name]
            cost = _sum(row.cost, outcome.cost)
            # A word in the table replaces the note on the confidence.
            message = _visible(_without(outcome.message, LOW_CONFIDENCE_NOTE))
            if outcome.state == "done":
                # A result with another background has the facts of the call that it was rendered from.
                facts = previous if previous is not None and not outcome.seconds else None
                row = Row(
                    row.name,
                    "done",
                    provider,
                    facts.seconds if facts else outcome.seconds,
                    cost,
                    facts.confidence if facts else outcome.confidence,
                    message,
                    thumbnail=thumbnail or (previous.thumbnail if previous else ""),
                    file=next(task.output for task in plan.tasks if task.entry.name == row.name),
                )
                if previous is not None and previous.file != row.file:
                    (self.folder / previous.file).unlink(missing_ok=True)  # another format
            elif previous is not None:
                text = Message(
                    "{provider} failed: {message} The earlier result is kept.",
                    provider=recipe.provider.info.title,
                    message=message,
                )
                row = replace(previous, cost=cost, message=text)
            else:
                row = Row(row.name, outcome.state, provider, 0.0, cost, None, message, outcome.systematic)
            if previous is not None and previous.thumbnail != row.thumbnail:
                _discard(previous.thumbnail)
            if thumbnail != row.thumbnail:
                _discard(thumbnail)
            self._rows[outcome.name] = row
            self.revision += 1

    def _finish(self, progress: Progress) -> None:
        self.message, self.halted = _visible(progress.halted), bool(progress.halted)

    def _restore_waiting(self) -> None:
        """Show the earlier results of photos that were not processed."""
        with self._lock:
            for name, row in self._previous.items():
                self._rows[name] = row
            self._previous.clear()
            self.revision += 1


#: Batches that run, or have run.
_BATCHES: weakref.WeakSet[Batch] = weakref.WeakSet()
_START_LOCK = threading.Lock()


def _visible(text: str) -> str:
    """Return a message for visitors, without the paths of the server's temporary files."""
    pattern = re.escape(str(workspace().folder.parent)) + r"[^\s'\":;,]*[^\s'\":;,.]"
    shown = for_visitor(text)
    return re.sub(pattern, "the disk of this server", shown) if re.search(pattern, shown) else shown


def _without(text: str, part: str) -> str:
    return text.replace(part, "").strip() if part in text else text


def _sum(first: Cost | None, second: Cost | None) -> Cost | None:
    """Return the sum of the costs of two calls, with the basis of the second one; unknown if one of them is."""
    if first is None or second is None:
        return first or second
    if first.usd is None or second.usd is None:
        return Cost(None, "unknown")
    return Cost(first.usd + second.usd, second.basis)


def _discard(path: str) -> None:
    if path:
        storage().discard(Path(path))
