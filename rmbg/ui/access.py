"""What a provider wants to know besides the photo: a key, for the services, and its options."""

from __future__ import annotations

import html
from collections.abc import Callable
from functools import partial
from typing import Any

import gradio as gr

from rmbg import keys
from rmbg.providers import find
from rmbg.providers.base import Option, ProviderInfo
from rmbg.settings import Settings
from rmbg.ui.key_field import key_field


def build(provider: gr.Dropdown, settings: Settings) -> tuple[gr.Textbox, gr.State]:
    """Key and options of the provider that is chosen; the state holds the options that were changed."""
    key = key_field(visible=False)
    options = gr.State({})
    provider.change(partial(_key_of, settings=settings), provider, key, **_INSTANT)
    provider.change(dict.clear, options, None, **_INSTANT)

    @gr.render(inputs=[provider], show_progress="hidden")
    def draw(name: str) -> None:
        draw_options(find(name, settings).info, options)

    return key, options


_INSTANT: dict[str, Any] = {"api_visibility": "private", "queue": False, "show_progress": "hidden"}


def draw_options(
    info: ProviderInfo,
    options: gr.State,
    shown: gr.HTML | None = None,
    show: Callable[[dict[str, Any]], str] = lambda options: "",
) -> None:
    """A box for each option; what is changed goes into `options` by its name, and what `show` says of them into `shown`."""
    if not info.options:
        return

    def changed(values: dict[str, Any], value: Any, name: str) -> Any:
        # In place: a change that is answered late must not take back another.
        values[name] = value
        return None if shown is None else show(values)

    with gr.Accordion("Options", open=False, elem_id=f"options-{info.id}"):
        for option in info.options:
            part = component(option)
            part.change(partial(changed, name=option.name), [options, part], shown, **_INSTANT)


def component(option: Option) -> Any:
    """The box that suits an option."""
    common: dict[str, Any] = {
        "label": option.title,
        "info": option.help or None,
        "elem_id": f"option-{option.name}",
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


def key_words(info: ProviderInfo, settings: Settings) -> tuple[str, str]:
    """Label of the box for a key, and what becomes of what is typed into it."""
    fate = "Used for your request only and stored nowhere."
    if keys.available(info.key_name, settings):
        fate += " Empty: the key of this server."
    return f"Your key for {info.title.partition(':')[0]}", fate


def _key_of(name: str, settings: Settings) -> Any:
    info = find(name, settings).info
    if info.kind == "local":
        return gr.update(visible=False, value="")
    label, fate = key_words(info, settings)
    return gr.update(visible=True, label=label, info=html.escape(fate), value="")
