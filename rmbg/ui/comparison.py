"""One photo at several providers, for one visitor: what has come so far, who is who, and the vote."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from rmbg.compare import Agreement, Outcome, agreement
from rmbg.photo import Photo
from rmbg.providers import find
from rmbg.ui.session import Result, Session
from rmbg.votes import Ballot

#: Longest side of a pane's picture, in pixels: there are several, and they can be enlarged.
PANE_SIDE = 900


@dataclass(frozen=True)
class Pane:
    """A place in the grid: its name on the page, and the outcome in it (None while it is awaited)."""

    name: str
    outcome: Outcome | None


class Comparison:
    """The comparison that a visitor is looking at.

    Figures are taken from the cutouts at screen size, so that another reference is a matter of a moment.

    Attributes
    ----------
    photo : Photo
        At screen size.
    providers : list of str
        Those that were asked, in the order of the page.
    blind : bool
        Whether names are hidden until the vote.
    ballot : Ballot or None
        Drawn when the last result is there.
    voted : bool
    stop : threading.Event
        Set to stop what is still running.
    """

    def __init__(self, photo: Photo, providers: list[str], *, blind: bool, stop: threading.Event) -> None:
        self.photo, self.providers, self.blind = _small(photo), providers, blind
        self.outcomes: dict[str, Outcome] = {}
        self.ballot: Ballot | None = None
        self.voted = False
        self.stop = stop
        self._results: dict[str, Result] = {}

    def add(self, outcome: Outcome, session: Session) -> None:
        """Take an outcome: its full size goes to the session's folder."""
        if outcome.cutout is None:
            self.outcomes[outcome.provider] = outcome
            session.spend.add(outcome.provider, outcome.spent)
            return
        result = session.keep(outcome.cutout, PANE_SIDE)
        self._results[outcome.provider] = result
        self.outcomes[outcome.provider] = replace(outcome, cutout=result.preview)

    @property
    def hidden(self) -> bool:
        """Whether the page must not say who made what."""
        return self.blind and not self.voted

    @property
    def complete(self) -> bool:
        return len(self.outcomes) == len(self.providers)

    @property
    def made(self) -> list[str]:
        """Providers that made a cutout, in the order of the page."""
        order = self.ballot.order if self.ballot else self.providers
        return [name for name in order if name in self.outcomes and self.outcomes[name].cutout is not None]

    def panes(self) -> list[Pane]:
        """The grid. In a blind comparison nothing is shown before all is there: the time of arrival would tell."""
        if not self.hidden:
            return [Pane(_title(name), self.outcomes.get(name)) for name in self.providers]
        if not self.complete:
            return [Pane(label(i), None) for i in range(len(self.providers))]
        return [Pane(label(i), self.outcomes[name]) for i, name in enumerate(self.made)]

    def choices(self) -> list[tuple[str, str]]:
        """(what is shown, provider) of everything that can be looked at in detail; numbers instead of providers while blind."""
        if self.hidden:
            return [(label(i), str(i)) for i in range(len(self.made))]
        return [(_title(name), name) for name in self.made]

    def cutout_of(self, choice: str | None) -> Outcome | None:
        """The outcome that a value of `choices` stands for."""
        if self.hidden and choice is not None and choice.isdigit() and int(choice) < len(self.made):
            return self.outcomes[self.made[int(choice)]]
        return self.outcomes.get(choice or "")

    def table(self, reference: str) -> list[Agreement]:
        """The lines of the table, for the providers that have answered."""
        return agreement([self.outcomes[name] for name in self.providers if name in self.outcomes], reference)

    def full(self) -> Iterator[Outcome]:
        """The outcomes at full size, one at a time from disk."""
        for name in self.made:
            yield replace(self.outcomes[name], cutout=self._results[name].full())

    def close(self) -> None:
        """Stop what runs and remove the files."""
        self.stop.set()
        for result in self._results.values():
            shutil.rmtree(result.folder, ignore_errors=True)


def label(place: int) -> str:
    """A, B, C: the name of a pane that nobody may know."""
    return chr(ord("A") + place)


def _small(photo: Photo) -> Photo:
    image = Image.fromarray(photo.flattened())
    image.thumbnail((PANE_SIDE, PANE_SIDE), Image.Resampling.BOX, reducing_gap=None)
    return Photo(np.asarray(image), name=photo.name, notes=photo.notes)


def _title(name: str) -> str:
    return find(name).info.title
