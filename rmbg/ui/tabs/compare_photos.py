"""Several photos in the Compare tab: their list, and the table of all results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import gradio as gr

from rmbg.billing.cost import Cost
from rmbg.compare.comparison import Outcome
from rmbg.message import Message
from rmbg.ui.compare_state import Comparison
from rmbg.ui.components import viewer
from rmbg.ui.components.photo_input import Upload
from rmbg.ui.languages import t
from rmbg.ui.messages import visitor_text
from rmbg.ui.session import Session
from rmbg.ui.tabs.compare_view import title
from rmbg.ui.templates import render

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


def table(compared: Sequence[Comparison], shown: Comparison | None) -> str:
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
