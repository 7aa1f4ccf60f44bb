"""Providers in the page's words: choices of the dropdown, the line below it, the table of the About tab."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from rmbg.cutout import Cost, dollars
from rmbg.prices import own_hardware
from rmbg.providers import PROVIDERS, find
from rmbg.providers.base import Provider, ProviderInfo, Status
from rmbg.settings import Settings
from rmbg.ui.spend import projection


def choices(settings: Settings) -> list[tuple[str, str]]:
    """(what is shown, id) for each provider, its status in the words."""
    best = find("auto", settings).info
    rows = [(f"Best that is ready ({best.title})", "auto")]
    return rows + [(f"{p.info.title}: {p.status(settings).text}", name) for name, p in PROVIDERS.items()]


def line(name: str, settings: Settings) -> str:
    """Below the dropdown: status, expected price and seconds, licence, where the pixels go."""
    provider = find(name, settings)
    info, status = provider.info, provider.status(settings)
    return (
        '<div class="provider-line">'
        f"<p>{_badge(status)} {html.escape(expected(info, settings))}</p>"
        f"<p>{html.escape(info.pixels)} {licence(info)}</p>"
        "</div>"
    )


def fresh(name: str, settings: Settings) -> tuple[Any, str]:
    """Choices and line as they are now: weights come, and their licences are accepted, while the page is open."""
    return gr.update(choices=choices(settings)), line(name, settings)


def expected(info: ProviderInfo, settings: Settings) -> str:
    """Price and seconds to expect, as words."""
    parts = []
    if info.kind == "remote" and info.price_usd is not None:
        cost = Cost(info.price_usd, info.price_basis)
        parts.append(f"{dollars(info.price_usd)} a picture ({info.price_basis}, seen {info.price_seen})")
        parts.append(projection(cost))
    elif info.kind == "local":
        usd = own_hardware(info.seconds or 1.0, settings.hourly_usd).usd
        assert usd is not None
        parts.append(f"about {dollars(usd)} a picture of this machine's time (estimated)")
    else:
        parts.append("price unknown before the call")
    if info.seconds is not None:
        parts.append(f"about {info.seconds:g} s")
    return ", ".join(parts) + "."


def table(settings: Settings) -> str:
    """Every provider with model, status, price, licence and where the pixels go, as an HTML table."""
    rows = "".join(_row(provider, settings) for provider in PROVIDERS.values())
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Providers"><table class="providers"><thead><tr>'
        "<th>Provider</th><th>Status</th><th>Model</th><th>A picture costs</th><th>Licence</th><th>Your photo</th>"
        f"</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _row(provider: Provider, settings: Settings) -> str:
    info, status = provider.info, provider.status(settings)
    cells = (
        f"<strong>{html.escape(info.title)}</strong><br><code>{html.escape(info.id)}</code>",
        _badge(status),
        f"{html.escape(info.model)}<br>{html.escape(info.input_size)}",
        html.escape(expected(info, settings)),
        licence(info),
        html.escape(info.pixels),
    )
    return "<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"


def _badge(status: Status) -> str:
    return f'<span class="badge {status.state}">{html.escape(status.text)}</span>'


def licence(info: ProviderInfo) -> str:
    """What one may do with the results, with the link."""
    text, title, url = (html.escape(part) for part in (info.licence, info.title, info.licence_url))
    return f'{text} <a href="{url}" target="_blank" rel="noopener">Licence of {title}</a>' if url else text
