"""State of one visitor's page: results, spend and runs, and the secret token by which a page finds it after a reload.

A page draws a token of 256 bits at random. The server stores its SHA-256 digest only, for as long as the session exists.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import threading
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from rmbg.compare.comparison import Outcome
from rmbg.cutout import Cutout
from rmbg.errors import CancelledError, OutputError, reason
from rmbg.providers import find
from rmbg.render.backgrounds import Background, picture
from rmbg.runtime.messages import Message
from rmbg.ui import results
from rmbg.ui.batch import Batch
from rmbg.ui.compare_state import Comparison
from rmbg.ui.components.inputs import DECODED, Upload
from rmbg.ui.consent import Consent, Spend
from rmbg.ui.results import PREVIEW_SIDE, Replacement, Result, shrink, thumbnail
from rmbg.ui.runs import Runs
from rmbg.ui.storage import storage, visitor, workspace

T = TypeVar("T")

#: Base64 of 32 bytes without padding.
TOKEN = re.compile("[A-Za-z0-9_-]{43}")


class Tokens(Generic[T]):
    """Weak mapping from tokens to objects; each object has at most one token."""

    def __init__(self) -> None:
        self._objects: weakref.WeakValueDictionary[bytes, T] = weakref.WeakValueDictionary()
        self._lock = threading.RLock()

    def register(self, token: str, value: T) -> None:
        """Make `token` the token of `value`; tokens of another form, and those in use, are ignored."""
        if not TOKEN.fullmatch(token):
            return
        with self._lock:
            if _digest(token) not in self._objects:
                self.revoke(value)
                self._objects[_digest(token)] = value

    def find(self, token: str) -> T | None:
        """Return the object of a token, or None."""
        with self._lock:
            return self._objects.get(_digest(token))

    def claim(self, token: str, holder: T) -> T | None:
        """Return the object of a token, which becomes invalid, and pass the token of `holder` on to that object.

        Of several calls with the same token one succeeds; the others return None, as for an unknown token.
        """
        with self._lock:
            value = self._objects.pop(_digest(token), None)
            if value is None:
                return None
            for digest in self.revoke(holder):
                self._objects[digest] = value
            return value

    def revoke(self, value: T) -> list[bytes]:
        """Make the token of `value` invalid, and return its digest if there is one."""
        with self._lock:
            digests = [digest for digest, other in self._objects.items() if other is value]
            for digest in digests:
                del self._objects[digest]
            return digests


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()


#: Results kept for a visitor; one more evicts the oldest.
MAX_RESULTS = 24


@dataclass
class _Files:
    """Owner and folder of a session's files, apart from the session for its finalizer."""

    owner: str = ""
    folder: Path | None = None

    def remove(self) -> None:
        if self.folder is not None:
            storage().discard_all(self.owner)
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None


class Session:
    """Results, spend, chosen background picture and runs of one visitor; private to the visitor and deleted with the page."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.strip: list[Result] = []  # results in the strip below the viewer, newest first
        self.removed = 0  # number of evicted results
        self.chosen: str | None = None  # path of the photo on the page, empty without one; None if unknown
        self._current: Result | None = None
        self.photo: Upload | None = None  # the photo of the Remove tab
        self._lock = threading.Lock()
        self.removals, self.replacements, self.comparisons, self.measurements = Runs(), Runs(), Runs(), Runs()
        self.mattings = Runs()  # changes of the mask that take seconds
        self.comparison: Comparison | None = None  # the one on the page
        self.compared: list[Comparison] = []  # of all photos of the last run
        self.added: list[Upload] = []  # photos for the next run besides the one in the field
        self.replacement: Replacement | None = None
        self.photos: dict[str, Upload] = {}  # photos of the other tabs, by the element id of their fields
        self.batch: Batch | None = None
        self._deleted = False
        self.spend = Spend()
        self.consent = Consent()
        self._files = _Files()
        weakref.finalize(self, self._files.remove)
        self._background: tuple[str, Background] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Session:
        """Return a new session: Gradio copies the initial value of a State for each visitor."""
        return Session()

    @property
    def current(self) -> Result | None:
        """The result in the viewer, the only one whose preview stays in memory."""
        return self._current

    @current.setter
    def current(self, result: Result | None) -> None:
        if self._current is not None and self._current is not result:
            self._current.release()
        self._current = result

    def choose(self, photo: str) -> None:
        """Set the path of the photo on the page; a current result of another photo leaves the viewer, not the strip."""
        with self._lock:
            self.chosen = photo
            if self.current is not None and self.current.source != photo:
                self.current = None

    def begin(self, preview: Cutout, width: int, height: int, source: str, *, computed: bool = False) -> Result:
        """Add a result before its full size is stored; `complete` or `withdraw` must follow.

        Parameters
        ----------
        preview : Cutout
            At screen size.
        width, height : int
            Full size in pixels.
        source : str
            Path of the photo.
        computed : bool
            True if the cutout at full size is computed, whose cost is then counted. `complete` counts it otherwise.

        Raises
        ------
        CancelledError
            If the session was cleared meanwhile.
        """
        result = Result(preview, width, height, None, pending=True, computed=computed)
        result.source = source
        with self._lock:
            self.check_deleted()
            if computed:
                self._count(preview)
            self.results.append(result)
            if self.chosen in (None, source):
                self.current = result
        return result

    def complete(self, result: Result, cutout: Cutout) -> None:
        """Store the cutout at full size of a result that `begin` has added; may evict older results.

        Raises
        ------
        OutputError
            If it cannot be written to disk.
        CancelledError
            If the result was removed meanwhile; its files are deleted.
        """
        if not result.computed:
            self._count(cutout)
        folder, memory, note = self._store(cutout, result.provided())
        with self._lock:
            removed = result not in self.results
            if not removed:
                result.complete(cutout, folder, memory, note)
                self._evict(result)
        if removed:
            if folder is not None:
                storage().discard(folder)
            raise CancelledError("Stopped.")

    def withdraw(self, result: Result) -> bool:
        """Remove a result whose full size does not follow; returns False if it was removed before or is complete."""
        with self._lock:
            withdrawn = result.pending and result in self.results
            if withdrawn:
                self.results.remove(result)
                self.current = None if self.current is result else self.current
        if withdrawn or result.pending:  # the visit may have been deleted meanwhile
            result.discard()
        return withdrawn

    def adopt(self, result: Result, source: str) -> None:
        """Make a stored result of the photo with the path `source`, and the photo, the current ones."""
        with self._lock:
            self.check_deleted()
            result.source = self.chosen = source
            if result not in self.results:
                self.results.append(result)
            self.current = result
            self._evict(result)

    def _evict(self, result: Result) -> None:
        """Remove the oldest results beyond the limit, and those whose files are gone; `result` stays."""
        for old in self.results[:-MAX_RESULTS]:
            old.discard()
        kept = [other for other in self.results if other is result or other.is_stored()]
        self.removed += len(self.results) - len(kept)
        self.results[:] = kept

    def delete(self, results: Iterable[Result]) -> None:
        """Remove results and their files."""
        with self._lock:
            deleted = list(results)
            if self.current in deleted:
                self.current = None
            self.results[:] = [result for result in self.results if result not in deleted]
        for result in deleted:
            result.discard()

    def new_batch(self, uploads: Sequence[Upload]) -> Batch:
        """Replace the batch by one of these uploads.

        Raises
        ------
        InputError
            If the uploads contain no pictures or exceed the limits; the earlier batch is then kept.
        """
        folder = self.own_folder() / f"batch-{secrets.token_hex(4)}"
        session = weakref.ref(self)  # the files of a session are removed when it is garbage collected
        batch = Batch(uploads, folder, lambda: found.owner if (found := session()) else "", self.spend.add)
        if self.batch is not None:
            self.batch.close()
        self.batch = batch
        return batch

    def keep(self, cutout: Cutout, side: int = PREVIEW_SIDE, *, counted: bool = False) -> Result:
        """Store a cutout: the full size on disk, at most `side` pixels in memory. Its cost is added unless it was `counted`.

        The result of a remote provider stays in memory at full size if it cannot be written to disk.

        Raises
        ------
        OutputError
            If the result of a local provider cannot be written to disk.
        CancelledError
            If the session was cleared meanwhile; the result is deleted.
        """
        if not counted:
            self._count(cutout)
        preview = shrink(cutout, side)
        return Result(preview, cutout.width, cutout.height, *self._store(cutout, preview))

    def _count(self, cutout: Cutout) -> None:
        """Add the cost of a cutout to the spend."""
        for part in cutout.steps or (cutout,):
            self.spend.add(part.provider, part.cost)

    def _store(self, cutout: Cutout, preview: Cutout) -> tuple[Path | None, Cutout | None, str]:
        """Write a cutout to disk; returns its folder, or the cutout itself and a message for the visitor."""
        try:
            folder = results.save(cutout, preview, self.own_folder())
        except OSError as error:
            self.check_deleted()
            if find(cutout.provider).info.kind == "local":
                text = "The server cannot store the result: {reason}. Try again later."
                raise OutputError(Message(text, reason=reason(error))) from None
            text = "The server cannot store this paid result on its disk: {reason}. It is kept in memory only. Download it now."
            return None, cutout, Message(text, reason=reason(error))
        storage().keep(self.owner, folder)
        self.check_deleted()
        return folder, None, ""

    def record(self, outcome: Outcome, comparison: Comparison) -> None:
        """Add an outcome to a comparison; stores its cutout and counts its cost."""
        if outcome.cutout is None:
            self.spend.add(outcome.provider, outcome.spent)
            comparison.add(outcome, None)
        else:
            try:
                result = self.keep(outcome.cutout)
            except OutputError as error:  # the comparison continues: its other results may be paid for
                comparison.add(Outcome(outcome.provider, None, str(error)), None)
            else:
                comparison.add(outcome, result)

    def background(self, path: str) -> Background:
        """Return a picture as background, at screen size; the last one is cached."""
        cached = self._background  # read once: another event may replace it meanwhile
        if cached is None or cached[0] != path:
            full = picture(path)
            assert full.image is not None
            self._background = cached = path, replace(full, image=np.asarray(thumbnail(full.image, 2 * PREVIEW_SIDE)))
        return cached[1]

    @property
    def owner(self) -> str:
        """Owner of the session's files in `Storage`: the session hash of the visitor, or a unique name outside of events."""
        self._files.owner = self._files.owner or visitor() or f"session-{id(self)}"
        return self._files.owner

    def own_folder(self) -> Path:
        """Return the session's folder; it is removed with the session, at the latest when the process exits."""
        with self._lock:
            if self._files.folder is None or not self._files.folder.exists():
                self.owner  # noqa: B018 - is set
                self._files.folder = workspace().new_folder("session-")
            return self._files.folder

    def download(self, data: bytes, name: str) -> str:
        """Write a new file for one download and return its path."""
        return storage().store(data, name, seconds=storage().keep_seconds)

    @property
    def in_use(self) -> bool:
        """True if the session has results or an active run."""
        shown = any(part is not None for part in (self.comparison, self.replacement, self.batch))
        return bool(self.results) or shown or any(run.active for run in self._runs())

    def _runs(self) -> tuple[Runs, ...]:
        return self.removals, self.replacements, self.comparisons, self.measurements, self.mattings

    def move(self, owner: str) -> None:
        """Make the visitor `owner` the owner of the session and of its files."""
        previous, self._files.owner = self.owner, owner
        storage().transfer(previous, owner)

    def clear(self) -> None:
        """Cancel all runs and delete all files of the visitor, for good: a run that ends later adds nothing."""
        owner = self.owner
        self.close()
        with self._lock:
            vars(self).update(vars(Session()), _files=self._files, _lock=self._lock, _deleted=True)
        storage().delete_visit(owner)
        DECODED.forget(owner)

    def check_deleted(self) -> None:
        """Raise CancelledError if the visitor has deleted this session."""
        if self._deleted:
            raise CancelledError(Message("The photos and results of this visit were deleted."))

    def leave(self) -> None:
        """Close the session when the state of its visitor is dropped, unless a later page has taken it over."""
        if self.owner == visitor():
            self.close()

    def close(self) -> None:
        """Cancel all runs and remove the files of the session."""
        TOKENS.revoke(self)
        for runs in self._runs():
            runs.cancel(wait=False)
        if self.batch is not None:
            self.batch.close()
        self.results.clear()
        self.current = None
        self._files.remove()


#: Tokens of the sessions of this process.
TOKENS: Tokens[Session] = Tokens()
