"""State of a visitor's comparison: results so far, hidden names, and the vote."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from rmbg.compare.agreement import Agreement, agreement, consensus
from rmbg.compare.comparison import Outcome
from rmbg.compare.votes import Ballot
from rmbg.cutout import Cutout
from rmbg.errors import PhotoError
from rmbg.images.photo import Photo
from rmbg.images.pixels import shrink_photo
from rmbg.providers import find
from rmbg.runtime.cancellation import CancellationToken
from rmbg.ui import pictures
from rmbg.ui.languages import for_visitor
from rmbg.ui.results import Result, shrink
from rmbg.ui.storage import storage

#: Longest side of a pane's picture, in pixels; zoomed panes load a part at full size.
PANE_SIDE = 900


@dataclass(frozen=True)
class Pane:
    """One cell of the grid: its name on the page, and its outcome (None while pending)."""

    name: str
    outcome: Outcome | None


class Comparison:
    """The comparison that the page shows.

    Figures are computed once for each reference, from the cutouts at full size, as the command line does.

    Attributes
    ----------
    photo : Photo
        At screen size.
    providers : list of str
        Ids, in the order of the page.
    blind : bool
        True if names are hidden until the vote.
    ballot : Ballot or None
        Drawn after the last result.
    voted : bool
    upload : str
        Path of the uploaded photo.
    message : str
        HTML of the final message; empty before the end of the run.
    """

    def __init__(self, photo: Photo, providers: list[str], *, blind: bool, token: CancellationToken, upload: str = "") -> None:
        self.photo, self.providers, self.blind, self.upload = shrink_photo(photo, PANE_SIDE), providers, blind, upload
        self.full_size = photo.width, photo.height
        self.outcomes: dict[str, Outcome] = {}
        self.ballot: Ballot | None = None
        self.voted = False
        self.message = ""
        self._token = token
        self._results: dict[str, Result] = {}
        self._cutouts: dict[str, Cutout] = {}  # at screen size
        self._given: set[str] = set()  # providers whose results belong to the session
        self._consensus: dict[str, float] | None = None
        self._picture = ""
        self._tables: dict[tuple[str, int], list[Agreement]] = {}  # by reference and number of rows
        self._figures = threading.Lock()

    def add(self, outcome: Outcome, result: Result | None) -> None:
        """Add an outcome, which is kept without pixels; `result` is its stored cutout, None if the provider failed."""
        if result is not None:
            self._results[outcome.provider] = result
            self.cutout(outcome.provider)
            outcome = replace(outcome, cutout=result.facts)
        self.outcomes[outcome.provider] = replace(outcome, error=for_visitor(outcome.error))

    @property
    def notes(self) -> list[str]:
        """Messages about results that could not be stored on disk."""
        return list(dict.fromkeys(result.note for result in self._results.values() if result.note))

    @property
    def hidden(self) -> bool:
        """True while the names of the providers must not be shown."""
        return self.blind and not self.voted

    @property
    def complete(self) -> bool:
        """True if all providers have ended and, in a blind comparison, the order of the panes is drawn."""
        return len(self.outcomes) == len(self.providers) and (not self.blind or self.ballot is not None)

    @property
    def succeeded(self) -> list[str]:
        """Ids of the providers that returned a cutout, in the order of the page."""
        order = self.ballot.order if self.ballot else self.providers
        return [name for name in order if name in self.outcomes and self.outcomes[name].cutout is not None]

    def panes(self) -> list[Pane]:
        """Cells of the grid.

        A blind comparison shows no result before the last, as the order of arrival reveals providers. Its panes have letters in
        the order of the ballot, and keep both after the vote, which adds the names; failed providers follow.
        """
        if not self.blind:
            return [Pane(_title(name), self.outcomes.get(name)) for name in self.providers]
        if not self.complete:
            return [Pane(label(i), None) for i in range(len(self.providers))]
        shown = self.succeeded if self.hidden else self._ordered()
        return [Pane(self.name_of(name), self.outcomes[name]) for name in shown]

    def name_of(self, provider: str) -> str:
        """Name of a provider's result on the page: its title, its letter, or both after a blind vote."""
        if not self.blind or provider not in self.succeeded:
            return _title(provider)
        letter = label(self.succeeded.index(provider))
        return letter if self.hidden else f"{letter}: {_title(provider)}"

    def choices(self) -> list[tuple[str, str]]:
        """Choices of the detail views as (name, value): the provider's id, or an index if the comparison is blind."""
        return [(self.name_of(name), value) for value, name in self._values().items()]

    def _values(self) -> dict[str, str]:
        """Provider ids by their values in `choices`."""
        return {str(i) if self.blind else name: name for i, name in enumerate(self.succeeded)}

    def provider_of(self, choice: str | None) -> str | None:
        """Id of the provider for a value of `choices`; None for any other value."""
        return self._values().get(choice or "")

    def cutout(self, provider: str) -> Cutout:
        """The cutout of a provider at screen size, read from disk if it was released.

        Raises
        ------
        PhotoError
            If the result was removed to make room.
        """
        cutout = self._cutouts.get(provider)
        if cutout is None:
            result = self._results[provider]
            self._cutouts[provider] = cutout = shrink(result.preview, PANE_SIDE)
            result.release()
        return cutout

    def release(self) -> None:
        """Free the memory of the cutouts."""
        self._cutouts.clear()

    def table(self, reference: str) -> list[Agreement]:
        """Rows of the table, one for each completed provider, in the order of the panes."""
        names = self._ordered()
        with self._figures:
            key = reference, len(names)
            if key not in self._tables:
                self._tables[key] = agreement([self.outcomes[name] for name in names], reference, self._full_matte)
            rows = {row.outcome.provider: row for row in self._tables[key]}
        return [rows[name] for name in names]

    def _full_matte(self, outcome: Outcome) -> np.ndarray | None:
        """Matte at full size; None if the provider failed, or its result was removed to make room."""
        if outcome.cutout is None:
            return None
        try:
            return self._results[outcome.provider].provided_matte()
        except PhotoError:
            return None

    def compute_figures(self) -> None:
        """Compute the figures that the page shows first."""
        self.consensus()
        if self.succeeded:
            self.table(self.succeeded[0])

    def _ordered(self) -> list[str]:
        """Ids of the completed providers; those of a ballot first, in its order."""
        names = [*(self.ballot.order if self.ballot else ()), *self.providers]
        return [name for name in dict.fromkeys(names) if name in self.outcomes]

    def consensus(self) -> dict[str, float]:
        """Mean IoU of each result with the others, in percent, by provider id; computed once."""
        with self._figures:
            if self._consensus is None:
                self._consensus = consensus([self.outcomes[name] for name in self.succeeded], self._full_matte)
            return self._consensus

    def give(self, provider: str) -> Result:
        """Hand over a stored result, whose files then belong to the caller and outlive the comparison."""
        self._given.add(provider)
        return self._results[provider]

    def result_of(self, provider: str) -> Result:
        """The stored result of a provider that returned a cutout."""
        return self._results[provider]

    def picture(self) -> str:
        """Path of the photo's picture, written at the first call.

        Raises
        ------
        RmbgError
            If the file cannot be written.
        """
        if not Path(self._picture).is_file():
            self._picture = pictures.store_photo(self.photo)
        return self._picture

    def shown(self) -> list[Outcome]:
        """Return the outcomes at screen size."""
        return [replace(self.outcomes[name], cutout=self.cutout(name)) for name in self.succeeded]

    def full(self) -> Iterator[Outcome]:
        """Yield the outcomes at full size, read from disk one at a time."""
        for name in self.succeeded:
            yield replace(self.outcomes[name], cutout=self._results[name].full())

    def close(self) -> None:
        """Cancel the run and remove the files."""
        self._token.cancel(wait=False)
        for name, result in list(self._results.items()):  # a provider may end meanwhile
            if name not in self._given:
                result.discard()
        if self._picture:
            storage().discard(Path(self._picture))


def label(index: int) -> str:
    """Label of a pane whose provider is hidden: A, B, C."""
    return chr(ord("A") + index)


def _title(name: str) -> str:
    return find(name).info.title
