"""Checkboxes and key fields of all providers, for the tabs that run several; unusable providers are disabled."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from rmbg.billing.quote import quote
from rmbg.providers import PROVIDERS
from rmbg.providers.base import ProviderInfo, Status
from rmbg.settings import Settings
from rmbg.ui.components.key_field import KeyField, key_field
from rmbg.ui.components.provider_options import key_labels
from rmbg.ui.languages import t
from rmbg.ui.messages import status_text


def boxes(prefix: str, settings: Settings, count: int = 1) -> list[gr.Checkbox]:
    """Create the checkboxes, in the order of the registry, with ids ``prefix-ID``; the first `count` free ones are checked."""
    free = [name for name, p in PROVIDERS.items() if p.info.kind == "local" and p.status(settings).state == "ready"]
    checks = []
    with gr.Group(elem_classes="choices"):
        for name, provider in PROVIDERS.items():
            status = provider.status(settings)
            checks.append(
                gr.Checkbox(
                    name in free[:count],
                    label=provider.info.title,
                    info=_summary(provider.info, status, settings),
                    interactive=status.usable,
                    elem_id=f"{prefix}-{name}",
                )
            )
    gr.on(
        None,  # at page load: weights may have been downloaded since the app was started
        partial(_refresh, settings),
        None,
        checks,
        api_visibility="private",
        queue=False,
        show_progress="hidden",
    )
    return checks


def _refresh(settings: Settings) -> list[Any]:
    status = {name: provider.status(settings) for name, provider in PROVIDERS.items()}
    return [
        gr.update(info=_summary(provider.info, status[name], settings), interactive=status[name].usable)
        for name, provider in PROVIDERS.items()
    ]


def key_names() -> list[str]:
    """Return the names of the services' keys without duplicates, in the order of the registry."""
    return list(dict.fromkeys(p.info.key_name for p in PROVIDERS.values() if p.info.kind == "remote" and p.info.key_name))


def key_fields(prefix: str, checks: list[gr.Checkbox], settings: Settings) -> list[KeyField]:
    """Create a field for each key, in an accordion; a key enables the checkboxes of the providers that require it."""
    fields = []
    with gr.Accordion("Your keys", open=False, elem_id=f"{prefix}-keys"):
        for name in key_names():
            locked = [(p, check) for p, check in zip(PROVIDERS.values(), checks, strict=True) if p.info.key_name == name]
            field = key_field(f"{prefix}-key-{name}")
            field.label, field.info = key_labels(locked[0][0].info, settings)
            usable = [provider.status(settings).usable for provider, _ in locked]
            field.change(
                partial(_unlock, usable),
                field,
                [check for _, check in locked],
                api_visibility="private",
                queue=False,
                show_progress="hidden",
            )
            fields.append(field)
    return fields


def _unlock(usable: list[bool], key: str) -> Any:
    enabled, disabled = gr.update(interactive=True), gr.update(interactive=False, value=False)
    updates = [enabled if is_usable or key.strip() else disabled for is_usable in usable]
    return updates if len(updates) > 1 else updates[0]


def split(values: tuple[Any, ...]) -> tuple[list[str], dict[str, str]]:
    """Split the values of `boxes` and `key_fields` into the ids of the selected providers and their keys by id."""
    checked, entered = values[: len(PROVIDERS)], dict(zip(key_names(), values[len(PROVIDERS) :], strict=True))
    keys = {name: key for name, p in PROVIDERS.items() if (key := (entered.get(p.info.key_name) or "").strip())}
    return selected_ids(checked), keys


def selected_ids(checked: tuple[bool, ...]) -> list[str]:
    """Return the ids of the providers whose boxes are checked."""
    return [name for name, is_checked in zip(PROVIDERS, checked, strict=True) if is_checked]


def _summary(info: ProviderInfo, status: Status, settings: Settings) -> str:
    """Status unless ready, expected price and seconds, such as ``$0.018 listed, about 4 s``."""
    parts = [] if status.state == "ready" else [status_text(status)]
    parts.append(t(str(quote(info, {}, settings))))
    parts += [] if info.seconds is None else [t("about {seconds} s", seconds=f"{info.seconds:g}")]
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]
