"""A box for each provider, for the tabs that take several; those that cannot run are grey and say why."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from rmbg.cutout import dollars
from rmbg.prices import own_hardware
from rmbg.providers import PROVIDERS
from rmbg.providers.base import ProviderInfo, Status
from rmbg.settings import Settings
from rmbg.ui.access import key_words
from rmbg.ui.key_field import KeyField, key_field


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
    gr.on(
        None,  # when the page is opened: weights may have come since the app was started
        partial(_fresh, settings),
        None,
        made,
        api_visibility="private",
        queue=False,
        show_progress="hidden",
    )
    return made


def _fresh(settings: Settings) -> list[Any]:
    status = {name: provider.status(settings) for name, provider in PROVIDERS.items()}
    return [
        gr.update(info=_in_short(provider.info, status[name], settings), interactive=status[name].usable)
        for name, provider in PROVIDERS.items()
    ]


def key_names() -> list[str]:
    """The keys that the services want, each once, in the order of the registry."""
    return list(dict.fromkeys(p.info.key_name for p in PROVIDERS.values() if p.info.kind == "remote" and p.info.key_name))


def key_fields(prefix: str, made: list[gr.Checkbox], settings: Settings) -> list[KeyField]:
    """A box for each key, in an accordion; a typed key frees the boxes of the providers that wait for it."""
    fields = []
    with gr.Accordion("Your keys", open=False, elem_id=f"{prefix}-keys"):
        for name in key_names():
            waiting = [(p, box) for p, box in zip(PROVIDERS.values(), made, strict=True) if p.info.key_name == name]
            label, fate = key_words(waiting[0][0].info, settings)
            field = key_field(f"{prefix}-key-{name}")
            field.label, field.info = label, fate
            usable = [provider.status(settings).usable for provider, _ in waiting]
            field.change(
                partial(_free, usable),
                field,
                [box for _, box in waiting],
                api_visibility="private",
                queue=False,
                show_progress="hidden",
            )
            fields.append(field)
    return fields


def _free(usable: list[bool], key: str) -> Any:
    free, grey = gr.update(interactive=True), gr.update(interactive=False, value=False)
    updates = [free if here or key.strip() else grey for here in usable]
    return updates if len(updates) > 1 else updates[0]


def split(rest: tuple[Any, ...]) -> tuple[list[str], dict[str, str]]:
    """The values of `boxes` and `key_fields` as the ids that are ticked and the keys by provider."""
    on, typed = rest[: len(PROVIDERS)], dict(zip(key_names(), rest[len(PROVIDERS) :], strict=True))
    keys = {name: key for name, p in PROVIDERS.items() if (key := (typed.get(p.info.key_name) or "").strip())}
    return ticked(on), keys


def withdrawn() -> tuple[Any, str]:
    """Updates for the row that asks for a yes and for the message above it: the question is no longer put."""
    return gr.update(visible=False), ""


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
