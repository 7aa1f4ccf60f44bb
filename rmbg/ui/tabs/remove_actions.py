"""Event handlers of the Remove tab: start and end of a run, its cancellation, display options, download."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from rmbg.errors import OptionError, RmbgError
from rmbg.images import encode
from rmbg.images.pixels import parse_color
from rmbg.providers import find
from rmbg.render.picture import View
from rmbg.settings import Settings
from rmbg.ui import pictures
from rmbg.ui.components import providers, viewer
from rmbg.ui.components.inputs import Upload
from rmbg.ui.components.rendering import RenderOptions
from rmbg.ui.languages import page_error, t
from rmbg.ui.results import Result
from rmbg.ui.runs import buttons
from rmbg.ui.session import Session
from rmbg.ui.tabs import strip


def start(session: Session, at_once: bool, provider: str, upload: Upload | None) -> tuple[Any, ...]:
    """Start a run without a click for a new photo and return the updates of the page.

    A run of an earlier photo is cancelled if it is free.
    Only a local provider that is ready is started this way: it costs nothing and downloads nothing.
    The run is bound to the provider that was checked here. A later change of the selection has no effect on it. The last value
    is the kind of the provider, empty without a run.
    """
    unchanged = upload is None or (session.photo is not None and session.photo.path == upload.path)
    session.photo = upload
    chosen = "" if unchanged or not at_once else free_and_ready(provider)
    number = session.removals.restart(chosen) if chosen else None
    begun = (gr.skip(),) * 4 if number is None else (number, *buttons(True), "")
    return *begun, *choose(session, upload), "" if number is None else "local"


def free_and_ready(provider: str) -> str:
    """Return the id of a local provider that needs no download, key or license; empty for all others."""
    settings = Settings.from_environ()
    try:
        chosen = find(provider, settings)
    except OptionError:
        return ""
    return chosen.info.id if chosen.info.kind == "local" and chosen.status(settings).state == "ready" else ""


def choose(session: Session, upload: Upload | None) -> tuple[Any, Any, Any]:
    """Set the photo on the page; returns updates of result, facts and download, which a result of another photo leaves."""
    session.choose("" if upload is None else upload.path)
    return strip.empty_stage() if session.current is None else (gr.skip(), gr.skip(), gr.skip())


def clear(session: Session) -> tuple[Any, ...]:
    """Leave the page without a photo; updates of result, facts, download and message."""
    session.photo = None  # the same photo counts as new
    return *choose(session, None), ""


def start_run(session: Session, upload: Upload | None, provider: str = "auto") -> tuple[Any, ...]:
    """Start a run, clear the message, and clear the result of another photo; the last value is the kind of the provider."""
    kind = find(provider).info.kind
    return session.removals.start(), *buttons(True), "", *choose(session, upload), kind


def after(session: Session, provider: str, settings: Settings) -> tuple[Any, ...]:
    """Updates after a run: start, cancel, list of providers, text below it, question about the cost.

    Another run may be active by then.
    """
    return *buttons(session.removals.active), *providers.refresh(provider, settings), providers.update("remove", session)


def abandon(session: Session, run: int | None) -> tuple[Any, Any]:
    """Cancel a run that has not begun, as Gradio's queue has rejected it; updates of start and cancel."""
    session.removals.abandon(run)
    return buttons(session.removals.active)


def stop(session: Session) -> tuple[Any, ...]:
    """Cancel the run and show its final message, which contains what a paid run may have been charged.

    A preview leaves the page. Returns updates of start, cancel, message, total, strip, result, facts and download.
    """
    message = session.removals.cancel()
    pending = [session.withdraw(result) for result in list(session.results) if not result.computed]
    current = session.current
    if current is not None:  # its last update may have been cancelled
        stage = gr.skip(), render_facts(current), gr.update(interactive=True)
    else:
        stage = strip.empty_stage() if any(pending) else (gr.skip(),) * 3
    return (
        *buttons(False),
        viewer.notice(message, "info"),
        viewer.total(session),
        strip.kept(session),
        *stage,
    )


def show(session: Session, *display: Any) -> tuple[Any, Any, Any]:
    """Render the current result with other display options."""
    result = session.current
    if result is None:
        return gr.skip(), gr.skip(), gr.skip()
    try:
        page = render_page(session, result, RenderOptions(*display))
    except RmbgError as error:
        return gr.skip(), gr.skip(), viewer.notice(str(error))
    return page if session.current is result else (gr.skip(), gr.skip(), gr.skip())


def restore(session: Session, *display: Any) -> tuple[Any, ...]:
    """Updates of result, facts, message, strip, total, download, start and cancel for results that another event has set."""
    return (
        *show(session, *display),
        strip.kept(session),
        viewer.total(session),
        gr.update(interactive=session.current is not None),
        *buttons(session.removals.active),
    )


def select(event: gr.EventData, session: Session, *display: Any) -> tuple[Any, ...]:
    """Make a result of the strip the current one, also of another photo; updates of result, facts, message and download."""
    results = session.strip  # read once: another event may replace it meanwhile
    index = event._data.get("index") if isinstance(event._data, dict) else None
    if isinstance(index, int) and 0 <= index < len(results):
        session.current = results[index]
    return *show(session, *display), gr.update(interactive=session.current is not None)


def render_page(session: Session, result: Result, options: RenderOptions) -> tuple[str, str, str]:
    """Return the HTML of viewer and facts, and a message about the result, which is usually empty."""
    options.background(session, full=False)  # reports invalid colors and pictures
    return viewer.result(result, options, session), render_facts(result), viewer.result_message(result)


def render_facts(result: Result) -> str:
    """Return the HTML of the facts below the viewer."""
    return viewer.facts(result, strip.title(result))


def part(session: Session, area: str, view: View) -> str:
    """Store a part of the current result and of its photo at full size; returns JSON for the viewer, see `viewer.answer`."""
    result = session.current
    if result is None:
        return json.dumps({"error": t("There is no result. Remove a background first.")})
    if result.pending:  # the viewer repeats the request after the run
        return json.dumps({"error": t("The cutout at full size is being computed…")})
    return viewer.answer([(result, view), (result, "original")], area, view, pictures.PART_SIDE)


def copy(session: Session, text: str, *display: Any) -> str:
    """Store the displayed picture for the clipboard. Returns JSON for the viewer, with a URL or an error message."""

    def stored() -> dict[str, Any]:
        if session.current is None:
            raise OptionError("There is no result to copy. Remove a background first.")
        options = RenderOptions(*display)
        background, margin = options.background(session, full=True), options.crop_margin()
        path, width, height = pictures.copy(session.current, background, options.view, margin, options.finishing())
        return {"url": pictures.url(path), "text": t("Copied, {width} × {height}", width=width, height=height)}

    return viewer.as_json(stored)


def save(session: Session, format_id: str, quality: int, *display: Any) -> tuple[Any, str]:
    """Render the current result at full size to a file for download."""
    result = session.current
    if result is None:
        raise page_error("There is no result to download. Remove a background first.")
    try:
        name, data = _encoder(session, format_id, quality, *display)(result)
        path = session.download(data, name)
    except RmbgError as error:
        raise page_error(error) from None
    return gr.update(value=path), viewer.result_message(result)


def save_all(
    session: Session, format_id: str, quality: int, *display: Any, progress: gr.Progress = gr.Progress()
) -> tuple[Any, str]:
    """Render all results of the session at full size to a zip archive for download."""
    results = [result for result in session.results[::-1] if result.is_stored()]
    if not results:
        raise page_error("There are no results to download. Remove a background first.")
    try:
        encoded = _encoder(session, format_id, quality, *display)
        packed = progress.tqdm(results, desc=t("Packing"), unit=t("results"))
        path = pictures.write(session.owner, (encoded(result) for result in packed))
    except RmbgError as error:
        raise page_error(error) from None
    return gr.update(value=path), ""


def _encoder(session: Session, format_id: str, quality: int, *display: Any) -> Callable[[Result], tuple[str, bytes]]:
    """Return a function from a result to the name and the bytes of its file at full size."""
    file_format, options = encode.format_named(format_id), RenderOptions(*display)
    background, finishing = options.background(session, full=True), options.finishing()

    def encoded(result: Result) -> tuple[str, bytes]:
        cutout = result.full()
        pixels = cutout.render(background, view=options.view, crop=options.crop_margin(), finishing=finishing)
        data = encode.encode(pixels, file_format, quality=int(quality), matte_color=parse_color(options.color))
        return f"{cutout.photo.name}-{options.view}{file_format.suffix}", data

    return encoded
