"""Key field and option fields of a provider."""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from rmbg.billing import api_keys
from rmbg.providers import find
from rmbg.providers.base import Option, ProviderInfo
from rmbg.settings import Settings
from rmbg.ui.components.key_field import key_field
from rmbg.ui.languages import t


def build(provider: gr.Dropdown, settings: Settings, prefix: str = "") -> tuple[gr.Textbox, gr.State]:
    """Create the key field and the options of the selected provider; the state contains the changed options.

    Parameters
    ----------
    provider : gr.Dropdown
    settings : Settings
    prefix : str
        Of the element ids: ``batch-`` for ``batch-key``, ``batch-options-cascade`` and ``batch-option-steps``.
    """
    key = key_field(f"{prefix}key", visible=False)
    options = gr.State({})
    provider.change(partial(key_update, settings=settings), provider, key, **_INSTANT)
    provider.change(dict.clear, options, None, **_INSTANT)

    @gr.render(inputs=[provider], show_progress="hidden")
    def draw(name: str) -> None:
        draw_options(find(name, settings).info, options, prefix=f"{prefix}option", sections=prefix)

    return key, options


_INSTANT: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}


def draw_options(
    info: ProviderInfo,
    options: gr.State,
    shown: gr.HTML | None = None,
    show: Callable[[dict[str, Any]], str] = lambda options: "",
    prefix: str = "option",
    sections: str = "",
) -> None:
    """Create a field for each option, the advanced ones in a section of their own.

    Parameters
    ----------
    options : gr.State
        Receives changed values by option name.
    shown : gr.HTML, optional
        Receives ``show(options)`` after each change.
    prefix : str
        Of the element ids of the fields, which continue with the option's name.
    sections : str
        Prefix of the element ids of the sections, if several tabs have them.
    """

    def changed(values: dict[str, Any], value: Any, name: str) -> Any:
        # In place: a returned copy could overwrite a concurrent change of another option.
        values[name] = value
        return None if shown is None else show(values)

    for title, section, advanced in (("Options", "options", False), ("Advanced options", "advanced", True)):
        chosen = [option for option in info.options if option.advanced == advanced]
        if not chosen:
            continue
        with gr.Accordion(t(title), open=False, elem_id=f"{sections}{section}-{info.id}"):
            for option in chosen:
                field = component(option, f"{prefix}-{option.name}")
                field.change(partial(changed, name=option.name), [options, field], shown, **_INSTANT)


def component(option: Option, elem_id: str) -> Any:
    """Create the component for an option, by its kind and range."""
    common: dict[str, Any] = {
        "label": t(option.title),
        "info": t(option.help) or None,
        "elem_id": elem_id,
        "interactive": True,
    }
    if option.kind == "bool":
        return gr.Checkbox(option.default, **common)
    if option.kind == "choice":
        return gr.Dropdown(list(option.choices), value=option.default, **common)
    if option.kind == "text":
        return gr.Textbox(option.default, max_lines=1, **common)
    low, high = option.minimum, option.maximum
    step = 1 if option.kind == "int" else None
    if low is not None and high is not None and high - low <= 1000:
        return gr.Slider(low, high, value=option.default, step=step, **common)
    return gr.Number(option.default, minimum=low, maximum=high, precision=0 if option.kind == "int" else None, **common)


def key_labels(info: ProviderInfo, settings: Settings) -> tuple[str, str]:
    """Return the label of a key field and the privacy note below it."""
    note = t("Used for your request only and never stored.")
    if api_keys.available(info.key_name, settings):
        note += " " + t("If empty, the key of this server is used.")
    return t("Your key for {service}", service=info.title.partition(":")[0]), note


def key_update(name: str, settings: Settings) -> Any:
    """Return the update of a key field for the provider `name`."""
    info = find(name, settings).info
    if info.kind == "local" or not info.key_name:
        return gr.update(visible=False, value="")
    label, note = key_labels(info, settings)
    return gr.update(visible=True, label=label, info=html.escape(note), value="")
