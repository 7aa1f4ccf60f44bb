"""Offer of a second provider in the Compare tab, for visitors with only one ready provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from rmbg.billing.quote import quote
from rmbg.providers import PROVIDERS
from rmbg.settings import Settings
from rmbg.ui.languages import t
from rmbg.ui.messages import status_text
from rmbg.ui.templates import render

#: Providers that are offered; the checkboxes have all.
OFFERED = 2


@dataclass(frozen=True)
class SecondProvider:
    """Components of the offer: a panel with a note on keys, and a choice of providers that can be downloaded."""

    panel: gr.Column
    note: gr.HTML
    choice: gr.Radio

    def shown(self, *checked: bool) -> Any:
        """Update that shows the panel while fewer than two providers are selected."""
        return gr.update(visible=sum(checked) < 2)


def build(visible: bool) -> SecondProvider:
    """Create the panel; `refresh` fills it at page load."""
    with gr.Column(visible=visible, elem_id="second-provider") as panel:
        note = gr.HTML("", elem_classes="bare")
        choice = gr.Radio([], label="Add a second provider", elem_id="second-choice", visible=False)
    return SecondProvider(panel, note, choice)


def refresh(settings: Settings) -> tuple[str, Any]:
    """Updates of note and choice; weights may have been downloaded since the app was started."""
    choices = offers(settings)
    note = render("second_provider.html", key=_cheapest_key(settings))
    return note, gr.update(choices=choices, value=None, visible=bool(choices))


def offers(settings: Settings) -> list[tuple[str, str]]:
    """Return (text, id) of the local providers that are downloaded on first use, fastest first."""
    found = []
    for name, provider in PROVIDERS.items():
        info, status = provider.info, provider.status(settings)
        if info.kind == "local" and status.state == "download":
            seconds = "" if info.seconds is None else ", " + t("about {seconds} s", seconds=f"{info.seconds:g}")
            found.append((info.seconds or 0.0, f"{info.title}: {status_text(status)}{seconds}. {t(info.license)}", name))
    return [(text, name) for _, text, name in sorted(found)[:OFFERED]]


def add(chosen: str | None) -> list[Any]:
    """Updates of the checkboxes that select the chosen provider."""
    return [gr.update(value=True) if name == chosen else gr.skip() for name in PROVIDERS]


def _cheapest_key(settings: Settings) -> str:
    """Sentence on the service with the lowest listed price that needs no more than a key; empty if there is none."""
    services = [p.info for p in PROVIDERS.values() if p.info.price_basis == "listed" and p.status(settings).state == "key"]
    quotes = [(quote(info, {}, settings), info.title) for info in services]
    priced = [(price.cost.usd, title, t(str(price))) for price, title in quotes if price.cost.usd is not None]
    if not priced:
        return ""
    _, title, price = min(priced)
    return t("With a key under “Your keys”, {title} costs {price} a picture.", title=title, price=price)
