"""Event handlers of the Remove tab: the run, its cancellation, display options, download."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

import gradio as gr

from rmbg.errors import CancelledError, RmbgError
from rmbg.images import encode
from rmbg.images.color import parse_color
from rmbg.message import Message, joined
from rmbg.providers import find
from rmbg.remove import remove_background
from rmbg.render.picture import View
from rmbg.settings import Settings
from rmbg.ui import archive, pictures, sign_in
from rmbg.ui.cancellation import buttons
from rmbg.ui.components import viewer
from rmbg.ui.components.photo_input import Upload
from rmbg.ui.components.render_options import RenderOptions
from rmbg.ui.consent import ConsentError, charges_of
from rmbg.ui.lanes import DEVICE
from rmbg.ui.languages import t
from rmbg.ui.messages import page_error, visitor_text
from rmbg.ui.results import Result
from rmbg.ui.session import Session
from rmbg.ui.tabs import strip

log = logging.getLogger(__name__)

#: Number of updates that `restore` returns.
RESTORED = 8

#: Shares of a removal's usual time at which the provider has ended, and at which the result is stored.
PROVIDER_SHARE, DISPLAY_SHARE = 0.82, 0.95


def choose(session: Session, upload: Upload | None) -> tuple[Any, Any, Any]:
    """Set the photo on the page; returns updates of result, facts and download, which a result of another photo leaves."""
    session.choose("" if upload is None else upload.path)
    return strip.empty_stage() if session.current is None else (gr.skip(), gr.skip(), gr.skip())


def clear(session: Session) -> tuple[Any, ...]:
    """Leave the page without a photo; updates of result, facts, download and message."""
    session.photo = None  # the same photo counts as new
    return *choose(session, None), ""


def start_run(session: Session, upload: Upload | None) -> tuple[Any, ...]:
    """Start a run, clear the message, and clear the result of another photo."""
    return session.removals.start(), *buttons(True), "", *choose(session, upload)


def after(session: Session) -> tuple[Any, Any]:
    """Updates of the buttons after a run has ended; another run may be active by then."""
    return buttons(session.removals.active)


def abort(session: Session) -> tuple[Any, Any]:
    """Cancel a run that Gradio's queue has rejected."""
    session.removals.cancel(wait=False)
    return buttons(False)


def increment(provider: str, local: int, remote: int) -> tuple[int, int]:
    """Increment the counter of the provider's kind."""
    return (local + 1, remote) if find(provider).info.kind == "local" else (local, remote + 1)


def remove(
    run: int | None,
    upload: Upload | None,
    provider: str,
    key: str,
    options: dict[str, Any],
    session: Session,
    *display: Any,
    progress: gr.Progress = gr.Progress(),
    visitor: sign_in.SignIn | None = None,
) -> tuple[Any, ...]:
    """Call the provider once and show its cutout; no other handler calls a provider.

    `visitor` is the sign-in of the visitor.
    """
    message = ""
    token, result = None, None
    provider = session.removals.provider(run) or provider
    try:
        info = find(provider, options=options).info
        kind = info.kind
        token = session.removals.begin(run, paid=kind == "remote")
        if token is None:
            return tuple(gr.skip() for _ in range(6))
        if upload is None:
            return _failed(session, "Choose a photo first: upload or paste one, or select an example.")
        RenderOptions(*display).background(session, full=False)  # reports invalid colors before the paid call
        key = sign_in.key_of(info, key, visitor)
        settings = sign_in.settings_of(info, Settings.from_environ(), visitor)
        session.consent.require("remove", charges_of(info, options, key, settings))
        if kind == "local":
            progress(0.0, desc=t("Waiting for this machine"))
        with DEVICE.turn(token.check) if kind == "local" else contextlib.nullcontext():
            cutout = remove_background(
                upload.open(),
                provider,
                options,
                key=key,
                progress=shown_progress(progress),
                cancelled=token.cancelled,
                settings=settings,
                device=DEVICE.turn,
            )
        progress(PROVIDER_SHARE, desc=t("Storing the result"))
        result = session.add(cutout, upload.path)
        progress(DISPLAY_SHARE, desc=t("Preparing the preview"))
        page = render_page(session, result, RenderOptions(*display))
        message = "The cutout was finished before the cancellation. It is the newest result of this session."
    except RmbgError as error:
        message = str(error)
        session.spend.add(provider, error.cost)
        if isinstance(error, CancelledError) and token is not None and session.removals.replaced(token):
            return tuple(gr.skip() for _ in range(6))
        severity = "info" if isinstance(error, (CancelledError, ConsentError)) else "error"
        return _failed(session, message, severity, added=result is not None)
    except Exception:
        log.exception("Removal by %s failed", provider)
        return _failed(session, viewer.INTERNAL_ERROR, added=result is not None)
    finally:
        if token is not None:
            token.end(message)
    shared = strip.update(session), viewer.total(session)
    if session.current is not result:  # another photo was chosen meanwhile
        result.release()
        text = Message(
            "The cutout of {name} is finished. Select it in the strip of this session to see it.", name=cutout.photo.name
        )
        return gr.skip(), gr.skip(), viewer.notice(joined(text, result.note), "info"), *shared, gr.skip()
    return *page, *shared, gr.update(interactive=True)


def remove_signed_in(
    run: int | None,
    upload: Upload | None,
    provider: str,
    key: str,
    options: dict[str, Any],
    session: Session,
    request: gr.Request,
    *display: Any,
    progress: gr.Progress = gr.Progress(),
) -> tuple[Any, ...]:
    """Call `remove` with the sign-in of the visitor. Gradio passes the request by its type."""
    visitor = sign_in.of_request(request)
    return remove(run, upload, provider, key, options, session, *display, progress=progress, visitor=visitor)


def _failed(session: Session, text: str, kind: str = "error", *, added: bool = False) -> tuple[Any, ...]:
    """Updates after a failure; `added` is True if the session has the result and only its display failed."""
    pictures = strip.update(session) if added else gr.skip()
    download = gr.update(interactive=True) if added and session.current is not None else gr.skip()
    return gr.skip(), gr.skip(), viewer.notice(text, kind), pictures, viewer.total(session), download


def shown_progress(progress: gr.Progress) -> Callable[[float | None, str], None]:
    """Return a progress callback of a provider, whose part of a removal ends at `PROVIDER_SHARE`.

    A step without a fraction keeps the last one.
    """
    reached = 0.0

    def show(done: float | None, text: str) -> None:
        nonlocal reached
        reached = reached if done is None else PROVIDER_SHARE * min(max(done, 0.0), 1.0)
        progress(reached, desc=t(text))

    return show


def stop(session: Session) -> tuple[Any, ...]:
    """Cancel the run and show its final message, which contains what a paid run may have been charged."""
    message = session.removals.cancel()
    return (
        *buttons(False),
        viewer.notice(message, "info"),
        viewer.total(session),
        strip.update(session) if session.results else gr.skip(),
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
        strip.update(session) if session.results else gr.skip(),
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
    facts = viewer.facts(result, strip.title(result))
    return viewer.result(result, options, session), facts, viewer.result_message(result)


def part(session: Session, area: str, view: View) -> str:
    """Store a part of the current result at full size; `area` is the text that `Part` parses.

    Returns JSON for the viewer, with URLs or an error message.
    """
    if session.current is None:
        return json.dumps({"error": t("There is no result. Remove a background first.")})
    try:
        area_of_photo = pictures.Part.parse(area, session.current.width, session.current.height)
        paths = pictures.part(session.current, area_of_photo, view)
    except RmbgError as error:
        return json.dumps({"error": visitor_text(error)})
    return json.dumps({"area": area, "view": view, **{name: pictures.url(path) for name, path in paths.items()}})


def copy(session: Session, *display: Any) -> str:
    """Store the displayed picture for the clipboard. Returns JSON for the viewer, with a URL or an error message."""
    if session.current is None:
        return json.dumps({"error": t("There is no result to copy. Remove a background first.")})
    try:
        options = RenderOptions(*display)
        background = options.background(session, full=True)
        path, width, height = pictures.copy(
            session.current, background, options.view, options.crop_margin(), options.finishing()
        )
    except RmbgError as error:
        return json.dumps({"error": visitor_text(error)})
    return json.dumps({"url": pictures.url(path), "text": t("Copied, {width} × {height}", width=width, height=height)})


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
        path = archive.write(session.owner, (encoded(result) for result in packed))
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
