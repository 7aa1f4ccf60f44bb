"""The visit of a browser tab: its photo and results survive a reload of the page, and can be deleted at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from rmbg.ui.components.key_field import KeyField
from rmbg.ui.components.photo_input import PhotoInput
from rmbg.ui.session import TOKENS, Session
from rmbg.ui.storage import visitor
from rmbg.ui.tabs import remove_actions
from rmbg.ui.tabs.remove import Parts
from rmbg.ui.templates import render
from rmbg.ui.visitors import Visitors

#: Seconds between two checks of a run that an earlier page has started.
POLL_SECONDS = 1.0

_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


def build(app: gr.Blocks, session: gr.State, parts: Parts) -> Any:
    """Create the hidden components and the buttons, and connect their events.

    Parameters
    ----------
    parts : Parts
        Components of the Remove tab that are restored.

    Returns
    -------
    gr.events.Dependency
        The event that restores a session, for other tabs to follow.
    """
    # Fields for keys: Gradio stores no copy of their values on the server.
    token, earlier = (KeyField(label=label, visible="hidden", elem_classes="offstage") for label in ("Token", "Earlier tokens"))
    timer = gr.Timer(POLL_SECONDS, active=False)
    outputs = [session, parts.photo, timer, *parts.restored]

    def restore(token: str, earlier: str, session: Session, *display: Any) -> tuple[Any, ...]:
        visitors = app.state_holder
        assert isinstance(visitors, Visitors)
        session.move(visitor())
        TOKENS.register(token, session)
        found = claim(earlier, session, visitors)
        if found is None:
            return tuple(gr.skip() for _ in outputs)
        photo = found.photo.path if found.photo and Path(found.photo.path).is_file() else gr.skip()
        return found, photo, gr.Timer(active=found.removals.active), *remove_actions.restore(found, *display)

    loaded = app.load(
        restore,
        [token, earlier, session, *parts.display],
        outputs,
        js="(token, earlier, ...others) => [...rmbgVisit.tokens(), ...others]",
        queue=False,
        **_PRIVATE,
    )
    loaded.success(None, js="() => rmbgVisit.resumed()", **_PRIVATE)

    timer.tick(follow, [session, *parts.display], [timer, *parts.restored], queue=False, **_PRIVATE)

    # An upload belongs to a visitor once an event has used it. The one of the Remove tab is checked at once anyway.
    for field in [block for block in app.blocks.values() if isinstance(block, PhotoInput) and block is not parts.photo]:
        field.upload(lambda upload: None, field, None, queue=False, **_PRIVATE)

    delete = gr.Button("Delete photos and results", size="sm", elem_id="delete-all")
    with gr.Row(visible=False, elem_id="delete-question") as question:
        gr.HTML(render("note.html", text="Delete all photos and results of this visit from the server?"), elem_classes="bare")
        yes = gr.Button("Yes, delete", size="sm", variant="stop", elem_id="delete-yes")
        no = gr.Button("No", size="sm", elem_id="delete-no")
    delete.click(lambda: (gr.update(visible=False), gr.update(visible=True)), None, [delete, question], queue=False, **_PRIVATE)
    no.click(lambda: (gr.update(visible=True), gr.update(visible=False)), None, [delete, question], queue=False, **_PRIVATE)
    yes.click(Session.clear, session, None, queue=False, **_PRIVATE).success(None, js="() => rmbgVisit.restart()", **_PRIVATE)
    return loaded


def follow(session: Session, *display: Any) -> tuple[Any, ...]:
    """Return the updates of `remove_actions.restore` once a run that an earlier page has started has ended."""
    if session.removals.active:
        return tuple(gr.skip() for _ in range(1 + remove_actions.RESTORED))
    return gr.Timer(active=False), *remove_actions.restore(session, *display)


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
