"""The Remove tab: one photo, its cutout by one provider, display options at no further cost, download."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from rmbg.images import encode
from rmbg.runtime.files import EXAMPLES
from rmbg.settings import Settings
from rmbg.ui.components import load_photo, providers, rendering, viewer
from rmbg.ui.components.inputs import photo_input
from rmbg.ui.components.rendering import BACKGROUNDS, VIEWS, RenderOptions
from rmbg.ui.lanes import SERVICES_AT_ONCE
from rmbg.ui.runs import INSTANT, PRIVATE, run_number
from rmbg.ui.storage import storage
from rmbg.ui.tabs import edits, removal, retouch, strip
from rmbg.ui.tabs import remove_actions as actions
from rmbg.ui.templates import render

#: Longest side of an example on the page, in pixels.
EXAMPLE_SIDE = 160


@dataclass(frozen=True)
class Parts:
    """Components that other modules use.

    Attributes
    ----------
    photo : gr.Image
    display : list of components
        Display options.
    restored : list of components
        Outputs of `remove_actions.restore`.
    to_compare, to_replace : gr.Button
        Buttons that pass the photo on to another tab.
    """

    photo: gr.Image
    display: list[Any]
    restored: list[Any]
    to_compare: gr.Button
    to_replace: gr.Button


def build(session: gr.State, settings: Settings) -> Parts:
    """Create the components of the tab and connect their events."""
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            photo = photo_input(
                label="Photo",
                sources=["upload", "clipboard", "webcam"],
                height=250,
                elem_id="photo",
                buttons=[],
            )
            message = gr.HTML("", elem_classes="bare", elem_id="message", render=False)
            example = _examples(photo, message)
            with gr.Row(equal_height=True):
                address = gr.Textbox(
                    label="Or the URL of a picture", placeholder="https://…", scale=4, elem_id="address", max_lines=1
                )
                load = gr.Button("Load", scale=1, min_width=80, elem_id="load")
            provider = gr.Dropdown(providers.choices_with_best(settings), value="auto", label="Provider", elem_id="provider")
            line = gr.HTML(providers.line("auto", settings), elem_classes="bare", elem_id="provider-line")
            key, options = providers.build_provider_options(provider, settings)
            # The browser keeps the choice.
            at_once = gr.Checkbox(True, label="Start at once if the provider is free and ready", elem_id="at-once")
            start = gr.Button("Remove background", variant="primary", size="lg", elem_id="start")
            cancel = gr.Button("Cancel", visible=False, size="lg", elem_id="cancel")
        with gr.Column(scale=7, min_width=320):
            message.render()
            consent = providers.restarting_row("remove", session, start, message)
            result = gr.HTML(viewer.empty(), elem_classes="bare", elem_id="result")
            tools = retouch.build(settings)
            facts = gr.HTML("", elem_classes="bare", elem_id="facts")
            kind = gr.Radio(BACKGROUNDS, value="transparent", label="Background", elem_id="background")
            with gr.Row():
                view = gr.Radio(VIEWS, value="cutout", label="View", elem_id="view", scale=5, min_width=250)
                canvas = rendering.size()
                with gr.Column(scale=3, min_width=150, elem_id="background-options"):
                    with gr.Row(elem_classes="for-color"):
                        color = gr.ColorPicker("#ffffff", label="Color", elem_id="color")
                    with gr.Row(elem_classes="for-gradient"):
                        top = gr.ColorPicker("#f8fafc", label="Top", min_width=100)
                        bottom = gr.ColorPicker("#cbd5e1", label="Bottom", min_width=100)
                    with gr.Row(elem_classes="for-image"):
                        image = photo_input(
                            label="Background picture",
                            sources=["upload"],
                            height=58,
                            buttons=[],
                            elem_id="background-picture",
                        )
            with gr.Row(equal_height=True):
                file_format = gr.Dropdown(
                    [(f.title, f.id) for f in encode.available()],
                    value="png",
                    label="File format",
                    elem_id="format",
                    min_width=190,
                )
                crop = gr.Checkbox(False, label="Crop to the subject", elem_id="crop", min_width=170)
                save = gr.Button("Download", variant="primary", size="lg", interactive=False, elem_id="save", min_width=190)
            with gr.Row():
                quality = gr.Slider(
                    1, 100, value=encode.QUALITY, step=1, label="Quality", elem_id="quality", visible=False, min_width=190
                )
                margin = gr.Slider(
                    0, 50, value=5, step=1, label="Margin, % of the subject", visible=False, elem_id="margin", min_width=190
                )
            padding, finishing = rendering.build(*canvas)
            display: list[Any] = [view, kind, color, top, bottom, image, crop, margin, *finishing]
            shown, gallery = [result, facts, message], strip.build_gallery()
            edits.build_clean_up(session, display, [*shown, gallery])
            edits.build_mask_tools(session, display, [*shown, gallery], settings)
            with gr.Row():
                to_compare = gr.Button("Compare providers on this photo", size="sm", elem_id="to-compare")
                to_replace = gr.Button("Generate a new background", size="sm", elem_id="to-replace")
            file = gr.DownloadButton("File", elem_id="file", elem_classes="offstage", visible="hidden")
            run_buttons = {kind: gr.Button(kind, elem_id=f"run-{kind}", visible="hidden") for kind in ("local", "remote")}
            kind_to_run = gr.Textbox("", visible="hidden")
            total = gr.HTML("", elem_classes="bare", elem_id="total")
            save_all = strip.build_strip(session, gallery, [result, facts, save, message])
            strip.build_pair(session, gallery, view)

    uploaded = photo.upload(
        load_photo.check_upload, [photo], [photo, message], concurrency_limit=load_photo.CONCURRENT_LOADS, **PRIVATE
    )
    # Not at a change: that follows the conversion of an upload, and a run may have begun by then.
    photo.input(actions.choose, [session, photo], [result, facts, save], **INSTANT)
    # Without the photo as input: the browser sends the old one with the first click after a reload.
    photo.clear(actions.clear, session, [result, facts, save, message], **INSTANT)
    downloaded = gr.on(
        [address.submit, load.click],
        load_photo.load,
        [address],
        [photo, message],
        concurrency_limit=load_photo.CONCURRENT_LOADS,
        **PRIVATE,
    )
    provider.change(partial(providers.line, settings=settings), provider, line, **INSTANT)

    status = partial(providers.refresh, settings=settings)
    gr.on(None, partial(status, "auto"), None, [provider, line], **INSTANT)  # at page load

    # Local and remote providers have separate concurrency limits, and a limit belongs to an event. A click therefore returns
    # the kind of the provider, and the script of the page presses the hidden button of this kind.
    limits: dict[str, dict[str, Any]] = {
        "local": {"concurrency_id": "device", "concurrency_limit": 1},
        "remote": {"concurrency_limit": SERVICES_AT_ONCE},
    }
    run = run_number()
    begun = [run, start, cancel, message, result, facts, save]
    started = start.click(actions.start_run, [session, photo, provider], [*begun, kind_to_run], **INSTANT)
    started.success(None, kind_to_run, js="(kind) => rmbgRun(kind)", **PRIVATE)
    started.then(None, js="() => rmbgShowResult()", **PRIVATE)
    loads = [event for event in (uploaded, downloaded, example) if event is not None]
    gr.on(None, None, None, at_once, js="() => rmbgAtOnce.load()", **INSTANT)  # at page load
    at_once.input(None, at_once, None, js="(on) => rmbgAtOnce.store(on)", **INSTANT)
    own_kind = gr.Textbox("", visible="hidden")  # a click on the start button may be answered at the same time
    for load_event in loads:
        loaded = load_event.then(actions.start, [session, at_once, provider, photo], [*begun, own_kind], **INSTANT)
        loaded.then(None, own_kind, js="(kind) => rmbgRun(kind)", **INSTANT)
    removals: list[Any] = [
        button.click(
            removal.remove,
            [run, photo, provider, key, options, session, *display],
            [*shown, gallery, total, save],
            show_progress="full",
            show_progress_on=[result],
            trigger_mode="always_last",
            **limits[provider_kind],
            **PRIVATE,
        )
        for provider_kind, button in run_buttons.items()
    ]
    ended = partial(actions.after, settings=settings)
    for event in removals:
        event.then(ended, [session, provider], [start, cancel, provider, line, consent], **INSTANT)
        event.success(None, js="() => rmbgShowFinished()", **PRIVATE)
        event.failure(actions.abandon, [session, run], [start, cancel], **INSTANT)  # the queue is full
    provider.change(partial(providers.hide, "remove"), [session, provider], [consent, message], **INSTANT)
    stopped = [start, cancel, message, total, gallery, result, facts, save]
    cancel.click(actions.stop, [session], stopped, cancels=removals, **INSTANT)

    # The browser composes all backgrounds and effects from pictures that it has; only a new picture is prepared by the server.
    names = [field.name for field in fields(RenderOptions)]
    composed = dict(zip([*names, "format"], [*display, file_format], strict=True))
    del composed["image"]
    gr.on(
        [component.change for component in composed.values()],
        None,
        list(composed.values()),
        js=f"(...values) => rmbgViewer.setOptions({json.dumps(list(composed))}, values)",
        **PRIVATE,
    )
    canvas[0].input(rendering.choose_canvas, [canvas[0], kind], [kind, padding], **INSTANT)
    image.change(actions.show, [session, *display], shown, trigger_mode="always_last", concurrency_limit=None, **INSTANT)
    viewer.request("viewer-part", actions.part, session, [view])
    viewer.request("viewer-copy", actions.copy, session, display, concurrency_limit=2, show_progress="hidden", **PRIVATE)
    retouch.connect(tools, session, display, [*shown, gallery], settings)
    file_format.change(lambda name: gr.update(visible=encode.FORMATS[name].lossy), file_format, quality, **INSTANT)
    crop.change(lambda checked: gr.update(visible=checked), crop, margin, **INSTANT)
    gallery.select(actions.select, [session, *display], [*shown, save], **INSTANT).then(
        None, js="() => rmbgShowOutcome(false)", **PRIVATE
    )
    for button, action, limit in ((save, actions.save, 2), (save_all, actions.save_all, 1)):
        button.click(
            action,
            [session, file_format, quality, *display],
            [file, message],
            show_progress_on=[button],
            concurrency_limit=limit,
            **PRIVATE,
        ).success(None, js="() => document.querySelector('#file').click()", **PRIVATE)
    return Parts(photo, display, [*shown, gallery, total, save, start, cancel], to_compare, to_replace)


def _examples(photo: gr.Image, message: gr.HTML) -> Any:
    """Create the row of examples and return its event, which sets the photo; None if there are no examples."""
    pictures = sorted(EXAMPLES.glob("*/im/*.jpg"))
    if not pictures:
        return None
    # Not gr.Examples: the page's configuration would contain the paths of the pictures on this machine.
    examples = gr.Dataset(
        components=[gr.HTML(visible=False)],
        samples=[[_example(path)] for path in pictures],
        type="index",
        label="Examples",
        samples_per_page=12,
        elem_id="examples",
    )
    return examples.click(
        lambda index: (storage().store(pictures[index].read_bytes(), pictures[index].name), ""),
        examples,
        [photo, message],
        **INSTANT,
    )


def _example(path: Path) -> str:
    with Image.open(path) as image:
        image.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
        return render("example.html", label=path.stem, source=viewer.data_uri(np.asarray(image), "webp-lossy"))
