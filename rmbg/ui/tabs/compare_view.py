"""HTML of a comparison: panes with synchronized zoom, tables of one and of several photos, difference map, ratings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import gradio as gr
import numpy as np

from rmbg.benchmark.plot import scatter
from rmbg.billing.cost import Cost, dollars
from rmbg.compare.agreement import FIRST_COLOR, SECOND_COLOR, Agreement, difference
from rmbg.compare.comparison import Outcome
from rmbg.compare.votes import RATED_VOTES, Rating
from rmbg.cutout import Cutout
from rmbg.errors import RmbgError
from rmbg.providers import PROVIDERS
from rmbg.render.picture import View
from rmbg.runtime.messages import Message
from rmbg.ui import pictures
from rmbg.ui.compare_state import Comparison, Pane
from rmbg.ui.components import viewer
from rmbg.ui.components.inputs import Upload
from rmbg.ui.components.viewer import PaneContent, by_phase, data_uri
from rmbg.ui.languages import t, visitor_text
from rmbg.ui.results import Result
from rmbg.ui.session import Session
from rmbg.ui.templates import render

#: Mean IoU in percent from which on results count as similar.
SIMILAR = 98.0


def grid(comparison: Comparison) -> str:
    """Render the photo and all panes, in which the browser composes view and background."""
    photo = comparison.photo
    original = _photo_url(comparison)
    shown = [PaneContent(t("Photo"), "", viewer.photo_layer(original), t("The photo"))]
    shown += [_pane_content(pane, comparison, original) for pane in comparison.panes()]
    return viewer.grid(shown, (photo.width, photo.height), comparison.full_size, "grid-keys")


def _photo_url(comparison: Comparison) -> str:
    """URL of the photo at screen size; a data URI if the server cannot write files."""
    try:
        return pictures.url(comparison.picture())
    except RmbgError:
        return data_uri(comparison.photo.flattened())


def grid_parts(comparison: Comparison, view: View) -> list[tuple[Result, View]]:
    """Results in the order of the panes with pictures; the first one stands for the photo."""
    outcomes = (pane.outcome for pane in comparison.panes())
    results = [comparison.result_of(shown.provider) for shown in outcomes if shown is not None and shown.cutout is not None]
    return [(results[0], "original"), *((result, view) for result in results)] if results else []


def _pane_content(pane: Pane, comparison: Comparison, original: str) -> PaneContent:
    outcome = pane.outcome
    if outcome is None:
        waiting = t("Waiting for the other providers") if comparison.hidden and comparison.outcomes else t("Working…")
        return PaneContent(pane.name, "", None, waiting)
    if outcome.cutout is None:
        return PaneContent(pane.name, "", None, visitor_text(outcome.error))
    cutout = outcome.cutout
    details = "" if comparison.hidden else f"{cutout.warm_seconds:.2f} s · {t(str(cutout.cost))}"
    layer = _layer(comparison, outcome.provider, pane.name, original)
    label = t("Result of {name}", name=pane.name)
    if comparison.hidden or not comparison.complete:
        return PaneContent(pane.name, details, layer, label)
    choice = next(value for _, value in comparison.choices() if comparison.provider_of(value) == outcome.provider)
    return PaneContent(pane.name, details, layer, label, cutout.notes, choice)


def _layer(comparison: Comparison, provider: str, name: str, original: str) -> viewer.Layer:
    result = comparison.result_of(provider)
    return viewer.layer(comparison.cutout(provider), name, lambda cutout: pictures.panes(result, cutout), original)


def table(comparison: Comparison, reference: str) -> str:
    """Render seconds, engine, cost, monthly price and agreement with the reference, one row for each provider."""
    return table_of(comparison.table(reference), reference, comparison.name_of) + hint(comparison) + plot(comparison)


def plot(comparison: Comparison) -> str:
    """Render the agreement with the other results against the cost of 100,000 pictures.

    Empty while names are hidden, and for fewer than three results: two agree equally with each other.
    """
    if comparison.hidden or len(comparison.succeeded) < 3:
        return ""
    agreements = comparison.consensus()
    names = sorted(agreements, key=agreements.__getitem__, reverse=True)
    costs = {row.outcome.provider: row.usd_100000 for row in comparison.table(comparison.succeeded[0])}
    values = [(comparison.name_of(name), costs[name], agreements[name]) for name in names]
    found = scatter(values, t("Agreement against cost"), t("US dollars for 100,000 pictures"), t("Agreement"), "$")
    note = t(
        "Agreement is an estimate, no measured quality: the mean IoU with the results of the other providers in percent. The "
        "Benchmark tab measures quality."
    )
    return render("plot.html", plot=found, note=note) if found.points else ""


def hint(comparison: Comparison) -> str:
    """Render an estimate of the best result from the agreement of the results and the confidence that networks predict.

    Empty for fewer than two results, and while names are hidden: a hint would influence the vote.
    """
    ranked = sorted(comparison.consensus().items(), key=lambda item: -item[1])
    if len(ranked) < 2 or comparison.hidden:
        return ""
    (best, high), (worst, low) = ranked[0], ranked[-1]
    names = comparison.name_of(best), comparison.name_of(worst)
    if low >= SIMILAR:
        text = t(
            "The results hardly differ in area (mean IoU from {low}%). Choose by edges, price and license.", low=f"{low:.1f}"
        )
    elif len(ranked) == 2:
        text = t(
            "The two results differ (IoU {high}%). Two results have no majority: see the differences below, or add a third "
            "provider.",
            high=f"{high:.1f}",
        )
    else:
        verdict = _verdict(comparison, best)
        figures = t(
            "Mean IoU with the other results: {high}% for {best}, {low}% for {worst}, which agrees least. Results can share an "
            "error, so check the pictures.",
            high=f"{high:.1f}",
            low=f"{low:.1f}",
            best=names[0],
            worst=names[1],
        )
        text = f"{verdict} {figures}"
    return render("note.html", text=" ".join([text, *_confidences(comparison)]))


def _verdict(comparison: Comparison, best: str) -> str:
    """Verdict on the result that agrees most; a confidence that contradicts the agreement leaves it open."""
    confident = [
        comparison.name_of(name)
        for name, mean_iou in comparison.consensus().items()
        if name != best and mean_iou < SIMILAR and comparison.result_of(name).facts.confidence_level == "high"
    ]
    name_of_best = comparison.name_of(best)
    if comparison.result_of(best).facts.confidence_level == "low":
        return t("Estimate without a reference: {name} agrees most, but its confidence is low.", name=name_of_best)
    if confident and comparison.result_of(best).facts.confidence_level != "high":
        return t(
            "Estimate without a reference: {name} agrees most, but {other} has high confidence in another result.",
            name=name_of_best,
            other=confident[0],
        )
    return t("Estimate without a reference: {name} probably looks best.", name=name_of_best)


def _confidences(comparison: Comparison) -> list[str]:
    """One sentence for each result whose provider predicts a confidence."""
    cutouts = {name: comparison.result_of(name).facts for name in comparison.succeeded}
    return [
        t(
            "{name} predicts an IoU of {percent}% for its own result, which is {level} confidence.",
            name=comparison.name_of(name),
            percent=f"{100 * cutout.confidence:.0f}",
            level=t(cutout.confidence_level),
        )
        for name, cutout in cutouts.items()
        if cutout.confidence is not None
    ]


def table_of(lines: list[Agreement], reference: str, name_of: Callable[[str], str]) -> str:
    """Render the rows of the table under the names that `name_of` returns for provider ids."""
    rows = [
        (
            name_of(line.outcome.provider),
            _engine(line),
            _phases(line),
            _cells(line, reference),
            visitor_text(line.outcome.error),
        )
        for line in lines
    ]
    return render("compare_table.html", rows=rows)


def _phases(line: Agreement) -> str:
    return "" if line.outcome.cutout is None else by_phase(line.outcome.cutout)


def _engine(line: Agreement) -> str:
    cutout = line.outcome.cutout
    if cutout is None:
        return ""
    return " ".join(part for part in (cutout.engine, cutout.device, cutout.precision) if part) or t("remote")


def _cells(line: Agreement, reference: str) -> list[str]:
    """Cells of a row after the provider's name; empty if the provider failed."""
    cutout = line.outcome.cutout
    if cutout is None:
        return []
    figures = [f"{value:.1f}" if value is not None else "–" for value in (line.iou, line.edge_difference, line.soft)]
    if line.outcome.provider == reference:
        figures[:2] = [t("reference")] * 2
    return [f"{cutout.warm_seconds:.2f}", t(str(cutout.cost)), dollars(line.usd_100000), *figures]


def pair(comparison: Comparison, choices: tuple[str, str], mode: str) -> str:
    """Render two results as a difference map (`mode` is ``difference``) or under a slider; empty if either failed."""
    names = {value: name for name, value in comparison.choices()}
    providers = [name for choice in choices if (name := comparison.provider_of(choice)) is not None]
    if len(providers) < 2:
        return ""
    labels = names[choices[0]], names[choices[1]]
    if mode == "difference":
        return difference_map(comparison.cutout(providers[0]), comparison.cutout(providers[1]), labels)
    original, size = _photo_url(comparison), (comparison.photo.width, comparison.photo.height)
    first, second = (_layer(comparison, name, label, original) for name, label in zip(providers, labels, strict=True))
    return viewer.slider(first, second, labels, size, comparison.full_size, "pair-keys")


def pair_parts(comparison: Comparison, choices: tuple[str, str], view: View) -> list[tuple[Result, View]]:
    """Results in the order of the slider's layers, the second one first; empty if either failed."""
    providers = [comparison.provider_of(choice) for choice in choices[::-1]]
    return [(comparison.result_of(name), view) for name in providers if name is not None] if None not in providers else []


def difference_map(first: Cutout, second: Cutout, names: tuple[str, str]) -> str:
    """Render the differences between two cutouts of one photo, with a legend."""
    pixels = difference(first.matte, second.matte, first.photo.flattened())
    fraction = (np.abs(first.matte - second.matte) > 0.1).mean()
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


# Several photos in the Compare tab: their list, and the table of all results.


#: Photos of one comparison. The results of all are stored at full size.
MAX_PHOTOS = 6

#: Passes the click on a row's button on to the server.
SHOW_PHOTO = """element.addEventListener("click", (event) => {
    const button = event.target.closest("[data-photo]");
    if (button) trigger("select", { index: Number(button.dataset.photo) });
});"""


def uploads(session: Session, upload: Upload | None) -> list[Upload]:
    """Return the photos of the next comparison: those that were added, and the one in the field."""
    added = list(session.added)
    if upload is not None and upload.path not in {other.path for other in added}:
        added.append(upload)
    return added[:MAX_PHOTOS]


def add(session: Session, upload: Upload | None) -> tuple[Any, str]:
    """Add the photo of the field to the list and clear the field; updates of photo and message."""
    if upload is None:
        return gr.skip(), viewer.notice("Choose a photo first, then add another one.")
    if len(session.added) >= MAX_PHOTOS - 1:
        return gr.skip(), viewer.notice(Message("A comparison takes at most {limit} photos.", limit=MAX_PHOTOS))
    session.added = uploads(session, upload)
    return None, ""


def clear(session: Session, upload: Upload | None) -> tuple[Any, str]:
    """Empty the list; updates of photo and message."""
    session.added = []
    return gr.skip(), ""


def listed(session: Session) -> str:
    """Return the HTML of the list, which states the limit."""
    return render("compare_photos.html", names=[upload.name for upload in session.added], limit=MAX_PHOTOS)


@dataclass(frozen=True)
class Row:
    """Figures of one result, or of all results of one provider."""

    provider: str
    seconds: str
    cost: str
    agreement: str
    error: str = ""


def photos_table(compared: Sequence[Comparison], shown: Comparison | None) -> str:
    """Render one row for each photo and provider, and one for each provider; empty for fewer than two photos."""
    if len(compared) < 2:
        return ""
    providers = compared[0].providers
    photos = [
        (item.photo.name, item is shown, [_row(item, name) for name in providers if name in item.outcomes]) for item in compared
    ]
    return render("compare_photos_table.html", photos=photos, summary=[_summary(compared, name) for name in providers])


def _row(comparison: Comparison, provider: str) -> Row:
    outcome = comparison.outcomes[provider]
    if outcome.cutout is None:
        return Row(title(provider), "", "", "", visitor_text(outcome.error))
    agreement = comparison.consensus().get(provider) if comparison.complete else None
    return Row(
        title(provider),
        f"{outcome.cutout.warm_seconds:.2f}",
        t(str(outcome.cutout.cost)),
        "–" if agreement is None else f"{agreement:.1f}",
    )


def _summary(compared: Sequence[Comparison], provider: str) -> Row:
    """Mean seconds, total cost including that of failed calls, mean agreement."""
    outcomes = [item.outcomes[provider] for item in compared if provider in item.outcomes]
    seconds = [outcome.cutout.warm_seconds for outcome in outcomes if outcome.cutout is not None]
    agreements = [item.consensus()[provider] for item in compared if item.complete and provider in item.consensus()]
    failed = len(outcomes) - len(seconds)
    return Row(
        title(provider),
        f"{sum(seconds) / len(seconds):.2f}" if seconds else "–",
        _total(outcomes),
        f"{sum(agreements) / len(agreements):.1f}" if agreements else "–",
        t("{count} of {total} photos failed.", count=failed, total=len(outcomes)) if failed else "",
    )


def _total(outcomes: Sequence[Outcome]) -> str:
    """Sum of the costs by basis; those that are unknown are counted."""
    costs = [outcome.spent if outcome.cutout is None else outcome.cutout.cost for outcome in outcomes]
    by_basis: dict[str, list[Cost]] = {}
    for cost in costs:
        if cost is not None:
            by_basis.setdefault(cost.basis, []).append(cost)
    unknown = len(by_basis.pop("unknown", []))
    parts = [t(str(Cost(sum((c.usd or Decimal(0) for c in group), Decimal(0)), group[0].basis))) for group in by_basis.values()]
    return ", ".join([*parts, *([f"{unknown} × {t('cost unknown')}"] if unknown else [])]) or "–"
