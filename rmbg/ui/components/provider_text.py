"""Descriptions of providers: choices and text of the provider dropdown, cards of the About tab."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from rmbg.billing.quote import quote
from rmbg.providers import PROVIDERS, find
from rmbg.providers.base import ProviderInfo, Status
from rmbg.settings import Settings
from rmbg.ui.languages import t
from rmbg.ui.messages import status_text
from rmbg.ui.origins import public_hosts
from rmbg.ui.templates import render


def choices(settings: Settings) -> list[tuple[str, str]]:
    """Return the choices of the dropdown as (title and status, id)."""
    best = find("auto", settings).info
    rows = [(t("Best available ({title})", title=best.title), "auto")]
    return rows + [(f"{p.info.title}: {status_text(p.status(settings))}", name) for name, p in PROVIDERS.items()]


def line(name: str, settings: Settings) -> str:
    """Return the text below the dropdown, see `summary`."""
    provider = find(name, settings)
    return summary(provider.info, expected(provider.info, settings), settings, provider.status(settings))


def summary(info: ProviderInfo, price: str, settings: Settings, status: Status | None = None) -> str:
    """Return status, price, recipient of the photo and license of a provider.

    What costs nothing and may be used commercially is summed up in a word; its details are one click away.
    """
    return render(
        "provider_line.html",
        info=info,
        status=None if status is None else _shown(status),
        price=price,
        free=info.kind == "local",
        restricted="non-commercial" in info.license.lower(),
        photo=data_use(info, settings),
    )


def refresh(name: str, settings: Settings) -> tuple[Any, str]:
    """Updates of the dropdown and its text: weights may be downloaded and licenses accepted while the page is open."""
    return gr.update(choices=choices(settings)), line(name, settings)


def expected(info: ProviderInfo, settings: Settings) -> str:
    """Return expected price and seconds as text."""
    parts = [t(quote(info, {}, settings).details())]
    if info.seconds is not None:
        parts.append(t("about {seconds} s", seconds=f"{info.seconds:g}"))
    return ", ".join(parts) + "."


def cards(settings: Settings) -> str:
    """Return a card for each provider: status, price, license, recipient of the photo, model."""
    groups = [("On this server" if _shared(settings) else "On this computer", "local"), ("Services", "remote")]
    rows = [
        (replace(p.info, pixels=data_use(p.info, settings)), _shown(p.status(settings)), expected(p.info, settings))
        for p in PROVIDERS.values()
    ]
    return render("providers.html", groups=[(name, [row for row in rows if row[0].kind == kind]) for name, kind in groups])


def data_use(info: ProviderInfo, settings: Settings) -> str:
    """Return where the photo is processed and when it is deleted, for a visitor of this server."""
    if info.kind == "remote":
        return t(info.pixels)
    if not _shared(settings):
        return t("The photo stays on this computer.")
    return t(
        "The photo is processed on {place} and deleted at the latest {minutes} minutes after you close this page.",
        place=place(settings),
        minutes=f"{settings.visit_seconds / 60:g}",
    )


def place(settings: Settings) -> str:
    """Return the name of this machine from the visitor's point of view, such as ``this server (studio.example.org)``."""
    if not _shared(settings):
        return t("this computer")
    names = [name for name in settings.allow_hosts if "*" not in name] + [n.host for n in public_hosts(settings.environ)]
    return t("this server ({name})", name=names[0]) if names else t("this server")


def _shared(settings: Settings) -> bool:
    """True if the server has visitors besides its owner; a reverse proxy may be detected after the page is built."""
    return settings.shared or Settings.from_environ().shared


def _shown(status: Status) -> Status:
    return replace(status, text=status_text(status))
