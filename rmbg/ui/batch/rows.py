"""Rows of a visitor's batch: they change with each outcome, and earlier results stay until they are replaced."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from rmbg.batch.outcome import Outcome
from rmbg.batch.recipe import Recipe
from rmbg.message import Message
from rmbg.providers.builtin import LOW_CONFIDENCE_NOTE
from rmbg.ui.batch.row import Row, add_costs
from rmbg.ui.batch.texts import visible
from rmbg.ui.storage import storage


class Rows:
    """Rows in the order of the photos; thread-safe.

    Parameters
    ----------
    names : iterable of str
    folder : Path
        Folder of the results.

    Attributes
    ----------
    revision : int
        Incremented with each change.
    """

    def __init__(self, names: Iterable[str], folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._rows = {name: Row(name) for name in names}
        self._previous: dict[str, Row] = {}
        self._thumbnails: dict[str, str] = {}
        self.revision = 0

    def all(self) -> list[Row]:
        """Return all rows."""
        with self._lock:
            return list(self._rows.values())

    def get(self, name: str) -> Row | None:
        """Return the row of a photo, or None if there is no such photo."""
        with self._lock:
            return self._rows.get(name)

    def begin(self, names: Iterable[str], recipe: Recipe) -> None:
        """Set the rows of a run to waiting; those with a result are kept for the case that the new attempt fails."""
        with self._lock:
            for name in names:
                row = self._rows[name]
                if row.file:
                    self._previous[name] = row
                self._rows[name] = replace(Row(name), cost=row.cost, provider=recipe.provider.info.id)
            self.revision += 1

    def previous(self, name: str) -> Row | None:
        """Return the earlier row with a result of a photo that waits, or None."""
        with self._lock:
            return self._previous.get(name)

    def set_thumbnail(self, name: str, path: str) -> None:
        """Set the thumbnail of a result whose outcome follows."""
        with self._lock:
            self._thumbnails[name] = path

    def report(self, outcome: Outcome, recipe: Recipe, files: Mapping[str, str]) -> None:
        """Set the row of a photo from the outcome of an attempt.

        Parameters
        ----------
        outcome : Outcome
        recipe : Recipe
        files : mapping of str to str
            Name of the result of each photo of the run.
        """
        with self._lock:
            previous = self._previous.pop(outcome.name, None)
            thumbnail = self._thumbnails.pop(outcome.name, "")
            cost = add_costs(self._rows[outcome.name].cost, outcome.cost)
            # A word in the table replaces the note on the confidence.
            message = visible(_without(outcome.message, LOW_CONFIDENCE_NOTE))
            if outcome.state == "done":
                thumbnail = thumbnail or (previous.thumbnail if previous else "")
                row = Row(
                    outcome.name,
                    "done",
                    recipe.provider.info.id,
                    recipe.inference,
                    outcome.seconds,
                    cost,
                    outcome.confidence,
                    message,
                    thumbnail=thumbnail,
                    file=files[outcome.name],
                )
                if previous is not None and not outcome.seconds:  # rendered from the matte of an earlier call
                    row = replace(row, seconds=previous.seconds, confidence=previous.confidence)
                if previous is not None and previous.file != row.file:  # in another format
                    (self._folder / previous.file).unlink(missing_ok=True)
            elif previous is not None:
                text = Message(
                    "{provider} failed: {message} The earlier result is kept.",
                    provider=recipe.provider.info.title,
                    message=message,
                )
                row = replace(previous, cost=cost, message=text)
            else:
                name, systematic = recipe.provider.info.id, outcome.systematic
                row = Row(outcome.name, outcome.state, name, cost=cost, message=message, systematic=systematic)
            for path in {thumbnail, previous.thumbnail if previous else ""} - {row.thumbnail}:
                _discard(path)
            self._rows[outcome.name] = row
            self.revision += 1

    def end(self) -> None:
        """Restore the earlier results of photos that were not processed."""
        with self._lock:
            self._rows.update(self._previous)
            self._previous.clear()
            self.revision += 1

    def discard(self) -> None:
        """Remove the thumbnails."""
        for row in self.all():
            _discard(row.thumbnail)


def _without(text: str, part: str) -> str:
    return text.replace(part, "").strip() if part in text else text


def _discard(path: str) -> None:
    if path:
        storage().discard(Path(path))
