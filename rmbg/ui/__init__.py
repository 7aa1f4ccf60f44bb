"""The page: Gradio Blocks, one file a tab."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

# Before gradio is imported: no analytics, no look-ups, whatever the machine's settings are.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr

from rmbg.network import is_this_machine
from rmbg.settings import Settings
from rmbg.ui import about_tab, api, benchmark_tab, compare_api, compare_tab, remove_tab, replace_tab
from rmbg.ui.session import Session
from rmbg.ui.theme import theme

HERE = Path(__file__).parent

#: Requests that may wait; the next one is told to come back later.
QUEUE = 32

#: Seconds after which an open page says that it is still there. Gradio keeps the session of a page whose connection is gone for
#: an hour from the last time that it was handed back.
SIGN_OF_LIFE = 600

#: Sessions that Gradio keeps its own notes of, with every value on their pages; the one that was used least recently goes.
SESSIONS = 500

#: Seconds between two looks at Gradio's temporary files, and the age at which they go.
SWEEP, AGE = 3600, 86_400

MASTHEAD = (
    '<div class="masthead"><svg viewBox="0 0 40 40" aria-hidden="true"><rect width="40" height="40" rx="9" fill="#0f766e"/>'
    '<path d="M20 6v28A14 14 0 0 1 20 6z" fill="#fff"/><path d="M20 6a14 14 0 0 1 0 28" fill="none" stroke="#fff" '
    'stroke-width="2" stroke-dasharray="3.4 3"/></svg><div><h1>RMBG Studio</h1>'
    "<p>Take the background off a picture, see what it cost, change the background for free.</p></div></div>"
)


def build() -> gr.Blocks:
    """The whole app, not yet launched."""
    settings = Settings.from_environ()
    with gr.Blocks(title="RMBG Studio", delete_cache=(SWEEP, AGE), analytics_enabled=False) as app:
        session = gr.State(Session(), delete_callback=Session.close)
        # Only a state that an event hands back grows old in Gradio's eyes and is ever deleted.
        gr.on(
            [app.load, gr.Timer(SIGN_OF_LIFE).tick],
            lambda mine: mine,
            session,
            session,
            api_visibility="private",
            queue=False,
            show_progress="hidden",
        )
        gr.HTML(MASTHEAD, elem_classes="bare")
        with gr.Tabs():
            with gr.Tab("Remove", id="remove"):
                remove_tab.build(session, settings)
            with gr.Tab("Compare", id="compare"):
                compare_tab.build(session, settings)
            with gr.Tab("Replace", id="replace"):
                replace_tab.build(session, settings)
            with gr.Tab("Benchmark", id="benchmark"):
                benchmark_tab.build(session, settings)
            with gr.Tab("About", id="about"):
                about_tab.build(settings)
        api.build()
        compare_api.build()
    app.queue(max_size=QUEUE)
    return app


def launch(*, host: str | None = None, port: int | None = None, share: bool = False, **more: Any) -> gr.Blocks:
    """Build and start the app; returns when it is stopped, unless ``prevent_thread_lock`` is among `more`."""
    if share or _public(host or os.environ.get("GRADIO_SERVER_NAME")):
        os.environ.setdefault("RMBG_SHARED", "1")
    settings = Settings.from_environ()
    app = build()
    # No daemon: a program that ends in the middle of loading a network would be aborted, whatever its exit status was to be.
    threading.Thread(target=_warm_up, name="warm-up").start()
    app.launch(
        server_name=host,
        server_port=port,
        share=share,
        theme=theme(),
        css_paths=[HERE / "style.css", HERE / "compare.css"],
        head="".join(f"<script>{(HERE / name).read_text(encoding='utf-8')}</script>" for name in ("page.js", "compare.js")),
        max_file_size=settings.max_bytes,
        run_history=False,
        footer_links=["api"],
        ssr_mode=False,
        state_session_capacity=SESSIONS,
        **more,
    )
    return app


def _public(host: str | None) -> bool:
    """Whether others than this machine can reach what listens on `host`."""
    return host is not None and not is_this_machine(host)


def _warm_up() -> None:
    """Load the built-in network, so that the first visitor does not wait for it."""
    from rmbg.providers.builtin import warm_up

    warm_up()
