"""Batch of a visitor: uploads as input, rows of the table, results within the quota, and runs in a thread of their own."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import threading
import weakref
import zipfile
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from rmbg.batch.job import Job
from rmbg.batch.manifest import Manifest, Outcome, State
from rmbg.batch.outputs import PROBE_BYTES, FolderOutput
from rmbg.batch.plan import MatteCache, Recipe
from rmbg.batch.sources import ARCHIVE_ERRORS, Entry, Source, ZipSource, is_zip, safe_part, without_suffix
from rmbg.batch.worker import Hooks
from rmbg.billing.cost import Cost
from rmbg.billing.quote import Estimate
from rmbg.cutout import Cutout, confidence_level
from rmbg.errors import CancelledError, InputError, NotReadyError, OutputError, PhotoError, RmbgError, printable
from rmbg.images import encode
from rmbg.images.photo import open_photo
from rmbg.matting.foreground import finish
from rmbg.matting.matte import to_bytes
from rmbg.providers.base import never_cancelled
from rmbg.providers.builtin import LOW_CONFIDENCE_NOTE
from rmbg.render.backgrounds import Background
from rmbg.runtime import files
from rmbg.runtime.cancellation import CancellationToken
from rmbg.runtime.messages import Message, megabytes, megapixels
from rmbg.settings import Settings
from rmbg.ui.components.inputs import Upload
from rmbg.ui.guard.connections import shared
from rmbg.ui.lanes import BATCH_LOCAL, BATCH_SERVICES, DEVICE, Client
from rmbg.ui.languages import for_visitor, t
from rmbg.ui.results import shrink
from rmbg.ui.runs import BATCH_NAME
from rmbg.ui.storage import storage, workspace


def visible(text: str) -> str:
    """Return a message for visitors, without the paths of the server's temporary files."""
    pattern = re.escape(str(workspace().folder.parent)) + r"[^\s'\":;,]*[^\s'\":;,.]"
    shown = for_visitor(text)
    return re.sub(pattern, "the disk of this server", shown) if re.search(pattern, shown) else shown


# Thumbnails in the table of a batch.


#: Longest side of a thumbnail in pixels.
SIDE = 144


def save_thumbnail(cutout: Cutout, background: Background, owner: str) -> str:
    """Store a thumbnail of a cutout among the files of a visitor, and return its path."""
    pixels = shrink(cutout, SIDE).render(background)
    path = storage().new_file("thumbnail.webp")
    path.write_bytes(encode.encode(pixels, encode.FORMATS["webp-lossy"], quality=80, quick=True))
    storage().keep(owner, path)
    return str(path)


# State of one photo of a visitor's batch.


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
    inference : str
        Fingerprint of the provider and the options of the result.
    seconds : float
    cost : Cost or None
        Of all calls for this photo; None if there was none.
    confidence : float or None
    message : str
    systematic : bool
        True for a failure of the provider, which another one may not have.
    thumbnail, file : str
        Path of the thumbnail, and name of the result in the folder; empty without a result.
    earlier : Row or None
        While another attempt runs, the row with the last result, which stays if the attempt fails.
    """

    name: str
    state: State = "new"
    provider: str = ""
    inference: str = ""
    seconds: float = 0.0
    cost: Cost | None = None
    confidence: float | None = None
    message: str = ""
    systematic: bool = False
    thumbnail: str = ""
    file: str = ""
    earlier: Row | None = None

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

    def waiting(self, recipe: Recipe) -> Row:
        """Return the row of the same photo before another attempt."""
        return Row(self.name, provider=recipe.provider.info.id, cost=self.cost, earlier=self if self.file else None)

    def attempted(self, outcome: Outcome, recipe: Recipe, file: str) -> Row:
        """Return the row after an attempt, whose result has the name `file`."""
        earlier, message = self.earlier, outcome.message
        if LOW_CONFIDENCE_NOTE in message:  # a word in the table replaces it
            message = message.replace(LOW_CONFIDENCE_NOTE, "").strip()
        row = replace(self, cost=add_costs(self.cost, outcome.cost), message=visible(message))
        if outcome.state == "done":
            seconds, confidence = outcome.seconds, outcome.confidence
            if earlier is not None and not seconds:  # rendered from the matte of an earlier call
                seconds, confidence = earlier.seconds, earlier.confidence
            row = replace(row, inference=recipe.inference, seconds=seconds, confidence=confidence)
            return replace(row, state="done", file=file, earlier=None)
        if earlier is None:
            return replace(row, state=outcome.state, systematic=outcome.systematic, thumbnail="")
        text, title = "{provider} failed: {message} The earlier result is kept.", recipe.provider.info.title
        return replace(earlier, cost=row.cost, message=Message(text, provider=title, message=row.message))


def thumbnails(rows: Iterable[Row]) -> set[Path]:
    """Return the paths of the thumbnails of rows and of their earlier results."""
    shown = (each.thumbnail for row in rows for each in (row, row.earlier) if each is not None)
    return {Path(path) for path in shown if path}


def add_costs(first: Cost | None, second: Cost | None) -> Cost | None:
    """Return the sum of the costs of two calls, with the basis of the second one; unknown if one of them is."""
    if first is None or second is None:
        return first or second
    if first.usd is None or second.usd is None:
        return Cost(None, "unknown")
    return Cost(first.usd + second.usd, second.basis)


# One run of a visitor's batch before it starts.


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


# Results of a visitor's batch: files in a folder of the visit, within the visitor's disk quota.


#: Bytes of the quota that stay free for mattes, thumbnails and the manifest of the photos in progress.
SPARE_BYTES = 8_000_000

#: Message if the results do not fit. Files in the quota are never evicted for a batch.
FULL = "The results need more disk space than this server gives one visitor. Download them, then send the other photos."


class VisitorOutput(FolderOutput):
    """Folder of results whose size counts for a visitor.

    Parameters
    ----------
    root : Path
    owner : callable () -> str
        Returns the owner in `Storage`, which changes when the page is reloaded.
    """

    def __init__(self, root: Path, owner: Callable[[], str]) -> None:
        super().__init__(root)
        self._owner, self._lock = owner, threading.Lock()

    def write(self, name: str, data: bytes) -> None:
        with self._lock:
            self._require(len(data))
            super().write(name, data)
            storage().keep(self._owner(), self._root)

    def probe(self, count: int = PROBE_BYTES) -> None:
        self._require(count)
        super().probe(count)

    def _require(self, count: int) -> None:
        """Raise OutputError if the results and a zip archive of them would exceed the quota of the visitor."""
        files = storage()
        results = files.bytes_at(self._root) + count
        if files.bytes_of(self._owner()) + count + results > files.session_bytes - SPARE_BYTES:
            raise OutputError(FULL)


# Uploads of a visitor as the input of a batch: pictures and zip archives, within the limits of the server.


#: Size limit of an archive's central directory in bytes, which `zipfile` parses as a whole.
MAX_DIRECTORY_BYTES = 4_000_000

#: Characters of a zip member's or a photo's name that are kept.
MAX_NAME = 120

NO_PHOTOS = "Choose photos or a zip archive first."


def limits(settings: Settings) -> str:
    """Return the limits of a batch in one sentence."""
    return t(
        "At most {count} photos and {total} at a time; a photo may have {size} and {pixels}.",
        count=settings.batch_files,
        total=megabytes(max_bytes(settings)),
        size=megabytes(settings.max_bytes),
        pixels=megapixels(settings.max_pixels),
    )


def max_bytes(settings: Settings) -> int:
    """Return the limit of the size of a batch; the results need the other half of the visitor's quota."""
    return min(settings.batch_bytes, settings.session_bytes // 2)


class UploadSource(Source):
    """Pictures among the uploads of a visitor, and those in zip archives, which are read without unpacking them.

    Parameters
    ----------
    uploads : sequence of Upload
    settings : Settings

    Raises
    ------
    InputError
        If there are no pictures, or if they exceed the limits; the message is for the visitor.
    """

    def __init__(self, uploads: Sequence[Upload], settings: Settings) -> None:
        self.settings = settings
        self._archives: dict[str, ZipSource] = {}
        self._entries: list[Entry] = []
        if not uploads:
            raise InputError(NO_PHOTOS)
        _check_total(sum(_size(upload) for upload in uploads), settings)
        names: set[str] = set()
        for entry, archive in self._found(uploads):
            if len(self._entries) >= settings.batch_files:
                text = Message(
                    "There are more than {limit:,} photos. Send them in several batches.", limit=settings.batch_files
                )
                raise InputError(text)
            name = _unique(entry.name, names)
            names.add(name.casefold())
            self._entries.append(replace(entry, name=name))
            if archive is not None:
                self._archives[name] = archive
        if not self._entries:
            raise InputError("There is no picture in the upload. Send files in a format such as JPEG, PNG, WebP or HEIC.")

    def entries(self) -> list[Entry]:
        return list(self._entries)

    def read(self, entry: Entry, cancelled: Callable[[], bool] = never_cancelled) -> bytes:
        if entry.name in self._archives:
            return self._archives[entry.name].read(entry, cancelled)
        if not Path(entry.locator).is_file():
            raise PhotoError(Message("{name} is no longer on the server. Upload it again.", name=printable(entry.name, 60)))
        return super().read(entry)

    def path(self, entry: Entry) -> str | None:
        """Return the path of an uploaded photo that is on the server; None for a photo in an archive."""
        return entry.locator if entry.name not in self._archives and Path(entry.locator).is_file() else None

    def _found(self, uploads: Sequence[Upload]) -> Iterator[tuple[Entry, ZipSource | None]]:
        """Yield the pictures with their archive; photos have the names of their files without folders."""
        total = 0
        for upload in uploads:
            path = Path(upload.path)
            if not is_zip(path):
                name = safe_part(PurePosixPath(upload.name.replace("\\", "/")).name)
                yield Entry(name, without_suffix(name), _stamp(path), upload.path), None
                continue
            archive = open_archive(upload, self.settings)
            members = archive.entries()
            total += sum(int(member.stamp.partition(":")[0]) for member in members)
            _check_total(total, self.settings)
            for member in members:
                name = "/".join(safe_part(part) for part in re.split(r"[\\/]", member.name) if part not in ("", ".", ".."))
                name = name if len(name) <= MAX_NAME else safe_part(name[-MAX_NAME:])
                yield replace(member, name=name or "photo"), archive


def open_archive(upload: Upload, settings: Settings) -> ZipSource:
    """Open an uploaded zip archive.

    Raises
    ------
    InputError
        If it is damaged, or has too many entries.
    """
    name = printable(upload.name, 60)
    if _directory_bytes(Path(upload.path)) > MAX_DIRECTORY_BYTES:
        raise InputError(
            Message("{name} has too many entries. Send at most {limit:,} photos.", name=name, limit=settings.batch_files)
        )
    try:
        return ZipSource(Path(upload.path), settings)
    except InputError:
        raise InputError(Message("{name} is not a valid zip archive. Create it again.", name=name)) from None


def _directory_bytes(path: Path) -> int:
    """Return the size of the central directory, which `zipfile.ZipFile` reads into memory; 0 if there is none."""
    try:
        with open(path, "rb") as file:
            record = zipfile._EndRecData(file)  # type: ignore[attr-defined]  # the same record as ZipFile uses
    except ARCHIVE_ERRORS:
        return 0
    return int(record[5]) if record else 0


def _check_total(size: int, settings: Settings) -> None:
    if size > max_bytes(settings):
        has, limit = megabytes(size), megabytes(max_bytes(settings))
        raise InputError(
            Message(
                "The photos have {size} together, more than the limit of {limit}. Send them in several batches.",
                size=has,
                limit=limit,
            )
        )


def _size(upload: Upload) -> int:
    try:
        return Path(upload.path).stat().st_size
    except OSError:
        return 0


def _stamp(path: Path) -> str:
    """Return the size and the name of an upload's folder, which Gradio derives from the content."""
    return f"{path.stat().st_size}:{path.parent.name}" if path.is_file() else "-"


def _unique(name: str, taken: Iterable[str]) -> str:
    """Return `name`, with a number before its suffix if its case-folded form is in `taken`."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - keeps the folders
    number, candidate = 1, name
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{stem}-{number}{suffix}"
    return candidate


# Batch of a visitor: photos, results, and runs in a thread of their own, which a closed page does not end.


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
        self._rows = {name: Row(name) for name in self._entries}
        self._lock = threading.Lock()  # of the rows
        self._token = CancellationToken()
        self._token.end()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.message, self.halted = "", False
        self.pending: Request | None = None  # waits for the consent of the visitor
        self.revision = 0  # incremented with each change of a row
        self.shown: tuple[int, bool] | None = None  # revision and filter of the table on the page

    @property
    def rows(self) -> list[Row]:
        """Rows in the order of the uploads."""
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
            self._client = Client.current()
            running = [batch._client.network for batch in _BATCHES if batch.running]
            own = running.count(self._client.network)
            if len(running) >= MAX_RUNNING or (2 * own >= MAX_RUNNING and shared()):
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
        for path in thumbnails(self.rows):
            storage().discard(path)
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
        row = self._rows.get(name)
        if row is None or not row.file:
            raise RmbgError("There is no result of this photo. Start the batch first.")
        entry = self._entries[name]
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

    def _matte_path(self, name: str) -> Path:
        return self._output.state / f"{list(self._entries).index(name)}.png"

    def _earlier_matte(self, name: str, recipe: Recipe) -> np.ndarray | None:
        """Return the matte of a photo if its result has the same provider and options, for another rendering."""
        earlier = self._rows[name].earlier
        return None if earlier is None or earlier.inference != recipe.inference else self._matte(name)

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
                self._change({name: self._rows[name].waiting(recipe) for name in results})
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
            self._change({row.name: row.earlier for row in self.rows if row.earlier is not None})
            if self._closed:
                shutil.rmtree(self.folder, ignore_errors=True)
            token.end(self.message)

    def _change(self, rows: Mapping[str, Row]) -> None:
        """Replace rows by their names, and remove the thumbnails that are no longer in use."""
        with self._lock:
            former = thumbnails(self.rows)
            self._rows |= rows
            self.revision += 1
            unused = former - thumbnails(self.rows)
        for path in unused:
            storage().discard(path)

    def _report(self, outcome: Outcome | None, recipe: Recipe, results: dict[str, str]) -> None:
        if outcome is None:
            return
        self._spend(recipe.provider.info.id, outcome.cost)
        row = self._rows[outcome.name].attempted(outcome, recipe, results[outcome.name])
        former = self._rows[outcome.name].earlier
        self._change({row.name: row})
        if former is not None and former.file != row.file:  # in another format
            (self.folder / former.file).unlink(missing_ok=True)

    def _limit(self, request: Request, job: Job) -> Decimal | None:
        """Return the limit of the charges of all runs; None if the price is unknown, which the visitor has accepted."""
        if not request.recipe.paid or request.estimate.unknown:
            return None
        return job.manifest.spent()[0] + request.estimate.usd

    def _hooks(self, recipe: Recipe, key: str | None) -> Hooks:
        lane, client = BATCH_SERVICES if recipe.paid else BATCH_LOCAL, self._client
        return Hooks(
            key,
            lambda check: lane.turn(check, bounded=False, client=client),
            lambda check: DEVICE.turn(check, bounded=False, client=client),
            lambda name: self._earlier_matte(name, recipe),
            lambda name, cutout: self._keep(name, cutout, recipe),
        )

    def _keep(self, name: str, cutout: Cutout, recipe: Recipe) -> None:
        """Store the matte and a thumbnail of a new cutout."""
        if self._closed:
            raise CancelledError("Stopped.")
        matte = encode.encode(to_bytes(cutout.matte), encode.FORMATS["png"], quick=True)
        files.write(self._matte_path(name), matte)
        thumbnail = save_thumbnail(cutout, recipe.background, self._owner())
        with self._lock:
            if self._rows[name].state == "new":  # the run may have ended meanwhile
                self._rows[name] = replace(self._rows[name], thumbnail=thumbnail)


#: Batches that run, or have run.
_BATCHES: weakref.WeakSet[Batch] = weakref.WeakSet()
_START_LOCK = threading.Lock()
