"""The run of the Remove tab: calls the provider, shows the cutout, large ones as a preview first, and stores it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from rmbg.cutout import Cutout
from rmbg.errors import CancelledError, OptionError, RmbgError
from rmbg.providers import find
from rmbg.providers.base import Preview
from rmbg.remove import remove_background
from rmbg.runtime.messages import Message, joined
from rmbg.settings import Settings
from rmbg.ui import sign_in
from rmbg.ui.components import viewer
from rmbg.ui.components.inputs import DECODED, Upload
from rmbg.ui.components.rendering import RenderOptions
from rmbg.ui.consent import charges_of
from rmbg.ui.lanes import DEVICE
from rmbg.ui.languages import t
from rmbg.ui.results import PREVIEW_SIDE, Result, shrink
from rmbg.ui.runs import INTERNAL_ERROR, LateProgress, in_thread, shown_progress
from rmbg.ui.session import Session
from rmbg.ui.tabs import strip
from rmbg.ui.tabs.remove_actions import render_facts, render_page

log = logging.getLogger(__name__)

#: Number of updates of a run: result, facts, message, strip, total, download.
UPDATES = 6

#: Longest pause after a local result or preview is sent, in which the browser on this machine has the processor to display it.
DISPLAY_SECONDS = 0.4


def remove(
    run: int | None,
    upload: Upload | None,
    provider: str,
    key: str,
    options: dict[str, Any],
    session: Session,
    request: gr.Request | None,
    *display: Any,
    progress: gr.Progress = gr.Progress(),
) -> Iterator[tuple[Any, ...]]:
    """Call the provider once and yield updates of the page: the result, or a preview of it, and after it is stored the rest.

    No other handler calls a provider. It runs in a thread of its own, so that a reload of the page, which closes this iterator,
    does not stop it. Gradio passes the request by its type.
    """
    visitor = sign_in.of_request(request)

    def work(show: Callable[[tuple[Any, ...]], None]) -> None:
        show(_remove(run, upload, provider, key, options, session, display, progress, visitor, show))

    yield from in_thread(work)


def _remove(
    run: int | None,
    upload: Upload | None,
    provider: str,
    key: str,
    options: dict[str, Any],
    session: Session,
    display: tuple[Any, ...],
    progress: gr.Progress,
    visitor: sign_in.SignIn | None,
    show: Callable[[tuple[Any, ...]], None],
) -> tuple[Any, ...]:
    """Run the provider; calls `show` with the updates of the result or its preview, and returns the final ones."""
    message = ""
    token = None
    result: Result | None = None
    provider = session.removals.provider(run) or provider

    shown = shown_progress(progress)

    def show_progress(done: float | None, text: str) -> None:
        if result is None:  # it would cover the preview
            shown(done, text)

    def display_first(result: Result) -> None:
        if session.current is result:
            total = viewer.total(session) if result.computed else gr.skip()
            show((*render_page(session, result, RenderOptions(*display)), gr.skip(), total, gr.update(interactive=True)))
            if kind == "local" and not settings.shared:  # the browser is on this machine and needs its cores
                result.displayed.wait(DISPLAY_SECONDS)

    def show_preview(preview: Cutout, width: int, height: int) -> None:
        nonlocal result
        assert upload is not None
        result = session.begin(preview, width, height, upload.path)
        display_first(result)

    report = LateProgress(show_progress)
    try:
        info = find(provider, options=options).info
        kind = info.kind
        token = session.removals.begin(run, paid=kind == "remote")
        if token is None:
            return (gr.skip(),) * UPDATES
        if upload is None:
            raise OptionError("Choose a photo first: upload or paste one, or select an example.")
        RenderOptions(*display).background(session, full=False)  # reports invalid colors before the paid call
        key = sign_in.key_of(info, key, visitor)
        settings = sign_in.settings_of(info, Settings.from_environ(), visitor)
        session.consent.require("remove", charges_of(info, options, key, settings))
        if kind == "local":
            report(0.0, t("Waiting for this machine"))
        cutout = remove_background(
            DECODED.take(upload) or upload.open(),
            provider,
            options,
            key=key,
            progress=report,
            cancelled=token.cancelled,
            settings=settings,
            device=DEVICE.turn,
            preview=Preview(PREVIEW_SIDE, show_preview),
        )
        if result is not None:
            session.complete(result, cutout)
        else:
            preview = shrink(cutout, PREVIEW_SIDE)
            result = session.begin(preview, cutout.width, cutout.height, upload.path, computed=True)
            try:
                display_first(result)
            finally:  # it may be paid for
                session.complete(result, cutout)
        message = "The cutout was finished before the cancellation. It is the newest result of this session."
        page = gr.skip(), render_facts(result), viewer.result_message(result)
    except RmbgError as error:
        message = str(error)
        session.spend.add(provider, error.cost)
        cancelled = isinstance(error, CancelledError)
        deleted = result is not None and result not in session.results
        if cancelled and token is not None and (deleted or session.removals.replaced(token)):
            return (gr.skip(),) * UPDATES
        return _failed(session, error, result)
    except Exception:
        log.exception("Removal by %s failed", provider)
        return _failed(session, RmbgError(INTERNAL_ERROR), result)
    finally:
        report.end()
        if result is not None and result.pending:
            session.withdraw(result)
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


def _failed(session: Session, error: RmbgError, result: Result | None) -> tuple[Any, ...]:
    """Updates after a failure. A preview leaves the page; of a complete `result` only the display has failed."""
    notice, total = viewer.failure(error), viewer.total(session)
    if result is None:
        return gr.skip(), gr.skip(), notice, gr.skip(), total, gr.skip()
    if result.pending:
        withdrawn, shown = session.withdraw(result), session.current is not None
        stage = strip.empty_stage() if withdrawn and not shown else (gr.skip(),) * 3
        return stage[0], stage[1], notice, strip.update(session), total, stage[2]
    download = gr.skip() if session.current is None else gr.update(interactive=True)
    return gr.skip(), gr.skip(), notice, strip.update(session), total, download
