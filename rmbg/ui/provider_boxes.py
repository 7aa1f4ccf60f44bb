"""A box for each provider, for the tabs that take several; those that cannot run are grey and say why."""

from __future__ import annotations

import gradio as gr

from rmbg.cutout import dollars
from rmbg.prices import own_hardware
from rmbg.providers import PROVIDERS
from rmbg.providers.base import ProviderInfo, Status
from rmbg.settings import Settings


def boxes(prefix: str, settings: Settings) -> list[gr.Checkbox]:
    """The boxes, in the order of the registry; the first that is ready is ticked. Their ids are ``prefix-ID``."""
    best = next((name for name, p in PROVIDERS.items() if p.status(settings).state == "ready"), None)
    made = []
    with gr.Group(elem_classes="choices"):
        for name, provider in PROVIDERS.items():
            status = provider.status(settings)
            made.append(
                gr.Checkbox(
                    name == best,
                    label=provider.info.title,
                    info=_in_short(provider.info, status, settings),
                    interactive=status.usable,
                    elem_id=f"{prefix}-{name}",
                )
            )
    return made


def ticked(on: tuple[bool, ...]) -> list[str]:
    """The ids of the providers whose boxes are ticked."""
    return [name for name, here in zip(PROVIDERS, on, strict=True) if here]


def _in_short(info: ProviderInfo, status: Status, settings: Settings) -> str:
    """``$0.018 listed, about 4 s``, after what it needs first."""
    price = info.price_usd
    basis = info.price_basis
    if price is None and info.kind == "local":
        price, basis = own_hardware(info.seconds or 1.0, settings.hourly_usd).usd, "estimated"
    parts = [] if status.state == "ready" else [status.text]
    parts.append("price unknown" if price is None else f"{dollars(price)} {basis}")
    parts += [] if info.seconds is None else [f"about {info.seconds:g} s"]
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]
