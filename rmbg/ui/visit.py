"""The visit of a browser tab: its photo and results survive a reload of the page, and can be deleted at once."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from rmbg.ui.components.inputs import PhotoInput, Upload
from rmbg.ui.components.providers import KeyField
from rmbg.ui.gradio_overrides import Visitors
from rmbg.ui.languages import t
from rmbg.ui.runs import INSTANT
from rmbg.ui.session import TOKENS, Session
from rmbg.ui.storage import visitor
from rmbg.ui.tabs import compare, compare_actions, remove, remove_actions, replace
from rmbg.ui.templates import render

#: Seconds between two checks of a run that an earlier page has started.
POLL_SECONDS = 1.0


def build(app: gr.Blocks, session: gr.State, parts: remove.Parts, comparison: compare.Parts, replaced: replace.Parts) -> Any:
    """Create the hidden components and the buttons, and connect their events; the components of the tabs are restored.

    Returns
    -------
    gr.events.Dependency
        The event that restores a session, for other tabs to follow.
    """
    # Fields for keys: Gradio stores no copy of their values on the server.
    token, earlier = (KeyField(label=label, visible="hidden", elem_classes="offstage") for label in ("Token", "Earlier tokens"))
    found = gr.Checkbox(False, visible="hidden")
    restoring = gr.Button(elem_id="visit-restore", visible="hidden")
    timer = gr.Timer(POLL_SECONDS, active=False)
    restored = [*parts.restored, *comparison.restored, *replaced.restored]
    photos = [comparison.photo, replaced.photo, replaced.reference]

    def resume(token: str, earlier: str, session: Session) -> tuple[Any, bool]:
        visitors = app.state_holder
        assert isinstance(visitors, Visitors)
        session.move(visitor())
        TOKENS.register(token, session)
        claimed = claim(earlier, session, visitors)
        return (gr.skip(), False) if claimed is None else (claimed, True)

    def restore(session: Session, *display: Any) -> tuple[Any, ...]:
        chosen = [session.photo, *(session.photos.get(field.elem_id or "") for field in photos)]
        paths = [upload.path if upload and Path(upload.path).is_file() else gr.skip() for upload in chosen]
        return *paths, gr.Timer(active=_active(session)), *_restored(session, *display)

    loaded = app.load(
        resume,
        [token, earlier, session],
        [session, found],
        js="(token, earlier, session) => [...rmbgVisit.tokens(), session]",
        **INSTANT,
    )
    loaded.success(None, found, js="(found) => rmbgVisit.resumed(found)", **INSTANT)
    # In an event of its own: with each message about an event, Gradio updates all components that have ever been outputs.
    outputs = [parts.photo, *photos, timer, *restored]
    continued = restoring.click(restore, [session, *parts.display], outputs, **INSTANT)

    timer.tick(follow, [session, *parts.display], [timer, *restored], **INSTANT)

    # An upload belongs to a visitor once an event has used it. The one of the Remove tab is checked at once anyway.
    for field in photos:
        field.change(partial(remember, field.elem_id or ""), [session, field], None, **INSTANT)
    others = (parts.photo, *photos)
    for field in [block for block in app.blocks.values() if isinstance(block, PhotoInput) and block not in others]:
        field.upload(lambda upload: None, field, None, **INSTANT)

    delete = gr.Button("Delete photos and results", size="sm", elem_id="delete-all")
    with gr.Row(visible=False, elem_id="delete-question") as question:
        gr.HTML(
            render("note.html", text=t("Delete all photos and results of this visit from the server?")), elem_classes="bare"
        )
        yes = gr.Button("Yes, delete", size="sm", variant="stop", elem_id="delete-yes")
        no = gr.Button("No", size="sm", elem_id="delete-no")
    delete.click(lambda: (gr.update(visible=False), gr.update(visible=True)), None, [delete, question], **INSTANT)
    no.click(lambda: (gr.update(visible=True), gr.update(visible=False)), None, [delete, question], **INSTANT)
    yes.click(Session.clear, session, None, **INSTANT).success(None, js="() => rmbgVisit.restart()", **INSTANT)
    return continued


def remember(name: str, session: Session, upload: Upload | None) -> None:
    """Keep the photo of the field `name` for a reload of the page."""
    if upload is None:
        session.photos.pop(name, None)
    else:
        session.photos[name] = upload


def follow(session: Session, *display: Any) -> Any:
    """Return the updates of all tabs once the runs that an earlier page has started have ended."""
    if _active(session):
        return gr.skip()
    return gr.Timer(active=False), *_restored(session, *display)


def _active(session: Session) -> bool:
    return any(runs.active for runs in (session.removals, session.comparisons, session.replacements))


def _restored(session: Session, *display: Any) -> tuple[Any, ...]:
    return (
        *remove_actions.restore(session, *display),
        *compare_actions.restore(session),
        *replace.restore(session),
    )


def claim(tokens: str, session: Session, visitors: Visitors) -> Session | None:
    """Take over the session that a page of the same browser tab has left, and return it.

    Parameters
    ----------
    tokens : str
        Tokens separated by spaces. The mark ``~`` restricts a token to a session without an open page: a browser copies the
        storage of a tab when the user duplicates it.
    session : Session
        The new session of the page, which is replaced.

    Returns
    -------
    Session or None
        None for tokens that are unknown or expired, and if `session` is in use already.
    """
    if session.in_use:
        return None
    for text in tokens.split()[:3]:
        token = text.removeprefix("~")
        found = TOKENS.find(token)
        if found is None or found is session or (text != token and visitors.is_live(found.owner)):
            continue
        found = TOKENS.claim(token, session)
        if found is not None:
            visitors.release(found.owner, found)
            found.move(visitor())
            return found
    return None
