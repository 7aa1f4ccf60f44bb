"""A comparison as HTML: equal panes that move together, the table, two results under one handle, the ratings."""

from __future__ import annotations

import html

import numpy as np

from rmbg import compose
from rmbg.benchmark.summary import money
from rmbg.compare import FIRST, SECOND, Agreement, Outcome, difference
from rmbg.compose import Background
from rmbg.ui.comparison import Comparison, Pane
from rmbg.ui.viewer import compare, data_uri
from rmbg.votes import Rating

EMPTY = (
    '<div class="viewer empty"><div class="invitation"><strong>The cut-outs appear here, side by side</strong>'
    "<span>Choose a photo and two or more providers, then press <em>Compare</em>.</span></div></div>"
)

#: The buttons that move all panes; compare.js does the work.
TOOLBAR = (
    '<div class="pane-tools" role="toolbar" aria-label="All panes">'
    '<button type="button" data-pane="in" aria-label="Zoom in">+</button>'
    '<button type="button" data-pane="out" aria-label="Zoom out">−</button>'
    '<button type="button" data-pane="fit">Fit</button>'
    '<button type="button" data-pane="loupe" aria-pressed="false">Loupe</button>'
    "<span>Double-click or Ctrl and wheel to zoom, drag to move: all panes go along.</span></div>"
)


def grid(comparison: Comparison, view: compose.View, background: Background) -> str:
    """The photo and all panes, in the same view on the same background."""
    photo = comparison.photo
    ratio = f"--ratio:{photo.width}/{photo.height}"
    shown = [_pane("Photo", "", data_uri(photo.flattened()), "The photo")]
    shown += [_answer(pane, comparison, view, background) for pane in comparison.panes()]
    return f'<div class="viewer panes" style="{ratio}">{"".join(shown)}</div>'


def _answer(pane: Pane, comparison: Comparison, view: compose.View, background: Background) -> str:
    outcome = pane.outcome
    if outcome is None:
        waiting = "Ready when all are" if comparison.hidden and comparison.outcomes else "Working…"
        return _pane(pane.name, "", None, waiting)
    if outcome.cutout is None:
        return _pane(pane.name, "", None, outcome.error)
    cutout = outcome.cutout
    line = "" if comparison.hidden else f"{cutout.seconds:.2f} s · {cutout.cost}"
    what = {"cutout": "Cut-out", "mask": "Mask", "original": "Photo"}[view]
    pixels = compose.render(cutout, background, view=view)
    return _pane(pane.name, line, data_uri(pixels), f"{what} by {pane.name}")


def _pane(name: str, line: str, uri: str | None, text: str) -> str:
    """One pane; without a picture `text` stands in its place."""
    inside = f'<img alt="{html.escape(text)}" src="{uri}" draggable="false">' if uri else f"<p>{html.escape(text)}</p>"
    return (
        f'<figure class="pane"><div class="view{"" if uri else " waiting"}">{inside}</div>'
        f"<figcaption><strong>{html.escape(name)}</strong><span>{html.escape(line)}</span></figcaption></figure>"
    )


def table(lines: list[Agreement], reference: str) -> str:
    """Seconds, engine, cost, price of a month and agreement with the reference, a line for each provider."""
    rows = "".join(_row(line, reference) for line in lines)
    heads = ["Provider", "Seconds", "Engine", "Cost", "100,000 a month", "IoU", "Edge difference", "Soft pixels"]
    head = "".join(f"<th>{text}</th>" for text in heads)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Figures"><table class="providers figures">'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        '<p class="note">IoU: overlap with the reference’s mask. Edge difference: mean difference of alpha from the reference '
        "near its edge. Soft pixels: share of the picture that is neither kept nor removed. All in percent.</p>"
    )


def _row(line: Agreement, reference: str) -> str:
    outcome, cutout = line.outcome, line.outcome.cutout
    name = f"<td><strong>{html.escape(outcome.title)}</strong></td>"
    if cutout is None:
        return f'<tr>{name}<td colspan="7">{html.escape(outcome.error)}</td></tr>'
    engine = " ".join(part for part in (cutout.engine, cutout.device, cutout.precision) if part) or "remote"
    figures = [f"{value:.1f}" if value is not None else "–" for value in (line.iou, line.edge_difference, line.soft)]
    if outcome.provider == reference:
        figures[:2] = ["reference", "reference"]
    cells = [f"{cutout.seconds:.2f}", engine, str(cutout.cost), money(line.usd_100000), *figures]
    return f"<tr>{name}{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>"


def pair(first: Outcome | None, second: Outcome | None, names: tuple[str, str], mode: str, background: Background) -> str:
    """Two results under one handle, or where they differ."""
    if first is None or second is None or first.cutout is None or second.cutout is None:
        return ""
    if mode == "difference":
        pixels = difference(first.cutout.matte, second.cutout.matte, first.cutout.photo.flattened())
        legend = "".join(
            f'<span><i style="background:rgb{colour}"></i>only {html.escape(name)} keeps</span>'
            for colour, name in zip((FIRST, SECOND), names, strict=True)
        )
        height, width = pixels.shape[:2]
        picture = f'<img alt="Where {html.escape(names[0])} and {html.escape(names[1])} differ" src="{data_uri(pixels)}">'
        stage = f'<div class="viewer" style="--ratio:{width}/{height}"><div class="stage">{picture}</div></div>'
        return f'{stage}<div class="legend">{legend}<span>{_differing(first, second)} of the pixels differ</span></div>'
    pictures = (compose.render(outcome.cutout, background) for outcome in (first, second) if outcome.cutout)
    left, right = pictures
    return compare(left, right, names[1], names[0])


def _differing(first: Outcome, second: Outcome) -> str:
    assert first.cutout is not None and second.cutout is not None
    return f"{100 * float((np.abs(first.cutout.matte - second.cutout.matte) > 0.1).mean()):.1f}%"


def ratings(rated: list[Rating], votes: int) -> str:
    """The table of ratings, with the number of votes."""
    if not rated:
        return '<p class="note">No votes yet. Compare blind and vote for the best result; ratings follow from the votes.</p>'
    rows = "".join(
        f"<tr><td><strong>{html.escape(r.provider)}</strong></td><td>{r.rating:.0f}</td><td>{r.low:.0f} to {r.high:.0f}</td>"
        f"<td>{r.wins}</td><td>{r.votes}</td></tr>"
        for r in rated
    )
    head = "".join(f"<th>{text}</th>" for text in ("Provider", "Rating", "95% interval", "Won", "Votes"))
    return (
        f'<p class="note">{votes} vote{"s" if votes != 1 else ""}. Bradley-Terry ratings: 1000 is average, 400 more wins '
        'ten to one.</p><div class="scroll" tabindex="0" role="region" aria-label="Ratings">'
        f'<table class="providers figures"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    )
