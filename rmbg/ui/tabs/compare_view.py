"""HTML of a comparison: panes with synchronized zoom, table, difference map, ratings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rmbg.billing.cost import dollars
from rmbg.compare.agreement import FIRST_COLOR, SECOND_COLOR, Agreement, difference
from rmbg.compare.comparison import Outcome
from rmbg.compare.ratings import RATED_VOTES, Rating
from rmbg.images.color import parse_color
from rmbg.providers import PROVIDERS
from rmbg.render import backgrounds
from rmbg.render.backgrounds import Background
from rmbg.render.picture import View
from rmbg.ui.compare_state import Comparison, Pane
from rmbg.ui.components.viewer import data_uri, slider
from rmbg.ui.templates import render

#: Mean IoU in percent from which on results count as similar.
SIMILAR = 98.0


@dataclass(frozen=True)
class PaneContent:
    """Content of one pane.

    Attributes
    ----------
    name, details : str
    uri : str or None
    text : str
        Shown if `uri` is None, otherwise the alternative text of the picture.
    notes : tuple of str
    choice : str
        Value of `Comparison.choices` for the button that continues with this result; empty for none.
    """

    name: str
    details: str
    uri: str | None
    text: str
    notes: tuple[str, ...] = ()
    choice: str = ""


def grid(comparison: Comparison, view: View, background: Background) -> str:
    """Render the photo and all panes, in the same view on the same background."""
    photo = comparison.photo
    panes = [PaneContent("Photo", "", data_uri(photo.flattened()), "The photo")]
    panes += [_pane_content(pane, comparison, view, background) for pane in comparison.panes()]
    return render("compare_grid.html", width=photo.width, height=photo.height, panes=panes)


def _pane_content(pane: Pane, comparison: Comparison, view: View, background: Background) -> PaneContent:
    outcome = pane.outcome
    if outcome is None:
        waiting = "Waiting for the other providers" if comparison.hidden and comparison.outcomes else "Working…"
        return PaneContent(pane.name, "", None, waiting)
    if outcome.cutout is None:
        return PaneContent(pane.name, "", None, outcome.error)
    cutout = outcome.cutout
    details = "" if comparison.hidden else f"{cutout.seconds:.2f} s · {cutout.cost}"
    label = {"cutout": "Cutout", "mask": "Mask", "original": "Photo"}[view]
    pixels = cutout.render(background, view=view)
    if comparison.hidden or not comparison.complete:
        return PaneContent(pane.name, details, data_uri(pixels), f"{label} by {pane.name}")
    choice = next(value for _, value in comparison.choices() if comparison.provider_of(value) == outcome.provider)
    return PaneContent(pane.name, details, data_uri(pixels), f"{label} by {pane.name}", cutout.notes, choice)


def rendering(view: str, kind: str, color: str) -> tuple[View, backgrounds.Background]:
    """Convert the values of the display controls."""
    if kind == "transparent":
        background = backgrounds.TRANSPARENT
    elif kind == "blur":
        background = backgrounds.BLURRED
    else:
        background = backgrounds.Background("color", (parse_color(color if kind == "color" else kind),))
    return view, background  # type: ignore[return-value]


def table(comparison: Comparison, reference: str) -> str:
    """Render seconds, engine, cost, monthly price and agreement with the reference, one row for each provider."""
    return table_of(comparison.table(reference), reference, comparison.name_of) + hint(comparison)


def hint(comparison: Comparison) -> str:
    """Render an estimate of the best result from the agreement of the results; empty for fewer than two."""
    ranked = sorted(comparison.consensus().items(), key=lambda item: -item[1])
    if len(ranked) < 2:
        return ""
    (best, high), (worst, low) = ranked[0], ranked[-1]
    names = comparison.name_of(best), comparison.name_of(worst)
    if low >= SIMILAR:
        text = f"The results hardly differ in area (mean IoU from {low:.1f}%). Choose by edges, price and license."
    elif len(ranked) == 2:
        text = (
            f"The two results differ (IoU {high:.1f}%). Two results have no majority: see the differences below, or add a "
            "third provider."
        )
    else:
        text = (
            f"Estimate without a reference: {names[0]} agrees most with the other results (mean IoU {high:.1f}%), {names[1]} "
            f"least ({low:.1f}%). Results can share an error, so check the pictures."
        )
    return render("note.html", text=text)


def table_of(lines: list[Agreement], reference: str, name_of: Callable[[str], str]) -> str:
    """Render the rows of the table under the names that `name_of` returns for provider ids."""
    rows = [(name_of(line.outcome.provider), _engine(line), _cells(line, reference), line.outcome.error) for line in lines]
    return render("compare_table.html", rows=rows)


def _engine(line: Agreement) -> str:
    cutout = line.outcome.cutout
    if cutout is None:
        return ""
    return " ".join(part for part in (cutout.engine, cutout.device, cutout.precision) if part) or "remote"


def _cells(line: Agreement, reference: str) -> list[str]:
    """Cells of a row after the provider's name; empty if the provider failed."""
    cutout = line.outcome.cutout
    if cutout is None:
        return []
    figures = [f"{value:.1f}" if value is not None else "–" for value in (line.iou, line.edge_difference, line.soft)]
    if line.outcome.provider == reference:
        figures[:2] = ["reference", "reference"]
    return [f"{cutout.seconds:.2f}", str(cutout.cost), dollars(line.usd_100000), *figures]


def pair(first: Outcome | None, second: Outcome | None, names: tuple[str, str], mode: str, background: Background) -> str:
    """Render two results as a difference map (`mode` is ``difference``) or as a slider; empty if either failed."""
    if first is None or second is None or first.cutout is None or second.cutout is None:
        return ""
    if mode != "difference":
        return slider(first.cutout.render(background), second.cutout.render(background), names[1], names[0])
    pixels = difference(first.cutout.matte, second.cutout.matte, first.cutout.photo.flattened())
    fraction = (np.abs(first.cutout.matte - second.cutout.matte) > 0.1).mean()
    height, width = pixels.shape[:2]
    return render(
        "difference.html",
        width=width,
        height=height,
        names=names,
        uri=data_uri(pixels),
        colors=list(zip(names, (FIRST_COLOR, SECOND_COLOR), strict=True)),
        share=f"{100 * float(fraction):.1f}%",
    )


def ratings(rated: list[Rating], votes: int) -> str:
    """Render the ratings of providers with enough votes, and the number of votes of the others."""
    rows = [(title(rating.provider), rating) for rating in rated]
    reliable = sorted(rows, key=lambda row: not row[1].reliable)  # stable: the order of the ratings is kept
    return render("ratings.html", ratings=reliable, votes=votes, needed=RATED_VOTES)


def title(provider: str) -> str:
    """Title of a provider; its id if it is no longer registered."""
    return PROVIDERS[provider].info.title if provider in PROVIDERS else provider
