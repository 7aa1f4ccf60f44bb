"""The Gradio app: its tabs and API endpoints, start and stop."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import gradio as gr

from rmbg.errors import RmbgError
from rmbg.inference.model_cache import release_memory
from rmbg.providers import add_own_models, load_plugins
from rmbg.providers.builtin import warm_up
from rmbg.settings import Settings
from rmbg.ui import operations, sign_in, visit
from rmbg.ui.api import endpoints
from rmbg.ui.gradio_overrides import CheckedBlocks, report_hidden_progress_to, set_up_queue
from rmbg.ui.guard.body import upload_limit
from rmbg.ui.guard.checks import Proxies
from rmbg.ui.languages import marked
from rmbg.ui.runs import GRACE_SECONDS, stop_event, wait_for_work
from rmbg.ui.server import check_address, largest_upload, lifespan, origins_of, set_shared
from rmbg.ui.session import Session
from rmbg.ui.storage import workspace
from rmbg.ui.tabs import about, batch, benchmark, carry_over, compare, remove, replace
from rmbg.ui.templates import render
from rmbg.ui.theme import theme

ASSETS = Path(__file__).parent / "assets"

#: Scripts in the head of the page, each for one concern.
SCRIPTS = (
    *("page.js", "tabs.js", "incoming.js", "visit.js", "outcome.js", "finishing.js"),
    *("viewer.js", "viewer_controls.js", "strokes.js", "retouch.js", "drafts.js"),
)

#: Style sheets of the page.
STYLES = ("style.css", "viewer.css", "finishing.css", "retouch.css", "outcome.css", "compare.css", "batch.css")

#: Requests that may wait in each of Gradio's queues; Gradio rejects the next one.
QUEUE_SIZE = 64

#: Size of Gradio's thread pool, above the sum of the concurrency limits of its queues.
MAX_THREADS = 96

log = logging.getLogger(__name__)

NO_BUDGET = "rmbg: RMBG_SERVER_KEYS=1 lets visitors spend on this server's keys without a limit. Set RMBG_DAILY_BUDGET_USD.\n"


def build() -> gr.Blocks:
    """Return the complete app, not yet launched."""
    settings = Settings.from_environ()
    add_own_models(settings)
    workspace()  # sets the folder of Gradio's temporary files
    for failure in load_plugins():
        log.warning("%s", failure)
    # The flag of Blocks covers the start of the app only. Reports of errors and integrations read the variable.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    with marked(), CheckedBlocks(title="RMBG Studio", analytics_enabled=False) as app:
        session = gr.State(Session(), delete_callback=Session.leave)
        gr.HTML(render("masthead.html"), elem_classes="bare")
        if sign_in.available(settings.environ):
            sign_in.button(app)
        with gr.Tabs() as tabs:
            with gr.Tab("Remove", id="remove"):
                removal = remove.build(session, settings)
            with gr.Tab("Batch", id="batch"):
                batches = batch.build(session, settings)
            with gr.Tab("Compare", id="compare"):
                comparison = compare.build(session, settings)
            with gr.Tab("Replace", id="replace"):
                replaced = replace.build(session, settings)
            with gr.Tab("Benchmark", id="benchmark"):
                benchmark.build(session, settings)
            with gr.Tab("About", id="about") as tab:
                about.build(tab, settings)
        restored = visit.build(app, session, removal, comparison, replaced)
        carry_over.connect(tabs, session, removal, comparison, replaced.photo)
        batch.connect(tabs, session, restored, batches, removal)
        endpoints.build(app)
    report_hidden_progress_to(session, app)
    app.queue(max_size=QUEUE_SIZE, api_open=False)
    set_up_queue(app)
    return app


def prepare(host: str | None = None, *, share: bool = False) -> str:
    """Decide whether the server is shared, which the page depends on, and return the address to bind.

    Raises
    ------
    RmbgError
        If `host` is no address of this machine, or a setting is invalid.
    """
    bound = host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    set_shared(bound, share=share, settings=Settings.from_environ())
    check_address(bound)
    return bound


def launch(
    app: gr.Blocks | None = None,
    *,
    host: str | None = None,
    port: int | None = None,
    share: bool = False,
    prevent_thread_lock: bool = False,
    quiet: bool = False,
) -> gr.Blocks:
    """Build the app, unless it is given, and start it.

    Returns after a signal has stopped it, or at once with `prevent_thread_lock`.

    Raises
    ------
    RmbgError
        If `host` is no address of this machine, or a setting is invalid.
    OSError
        If the port is in use.
    """
    bound = prepare(host, share=share)
    settings = Settings.from_environ()
    if settings.server_keys and settings.daily_budget_usd is None and sys.stderr is not None:
        sys.stderr.write(NO_BUDGET)
    origins = origins_of(bound, settings)
    proxies = Proxies.parse(settings.trusted_proxies, "RMBG_TRUSTED_PROXIES")
    os.environ["FORWARDED_ALLOW_IPS"] = ""  # the guard reads the forwarded headers, and not uvicorn
    if not prevent_thread_lock:
        operations.configure(settings)
    app = build() if app is None else app
    with contextlib.nullcontext() if prevent_thread_lock else stop_event() as stopped:
        app.launch(
            server_name=bound,
            server_port=port,
            share=share,
            theme=theme(),
            css_paths=[ASSETS / name for name in STYLES],
            head="".join(f"<script>{(ASSETS / name).read_text(encoding='utf-8')}</script>" for name in SCRIPTS),
            max_file_size=upload_limit(largest_upload(settings)),
            max_threads=MAX_THREADS,
            run_history=False,
            footer_links=["api"],
            ssr_mode=False,
            enable_monitoring=False,
            app_kwargs={"lifespan": lifespan(app, origins, proxies, settings)},
            prevent_thread_lock=True,
            quiet=quiet,
            mcp_server=mcp_is_available(),
            _frontend=False,  # otherwise the start fails if a busy machine answers its first request after 3 seconds
        )
        if share_host := urlsplit(app.share_url or "").hostname:
            origins.own.add(share_host)
        if sys.stdout is not None:
            sys.stdout.flush()  # the address, which a pipe would hold back until the exit
        # After the start, which Gradio aborts if it takes more than five seconds. Not a daemon thread: a process that exits
        # while a network is being loaded would abort and lose its exit status.
        threading.Thread(target=_warm_up, args=(settings,), name="warm-up").start()
        if stopped is not None:
            while app.is_running and not stopped.wait(0.5):
                pass
            stop(app)
    return app


def stop(app: gr.Blocks) -> None:
    """Cancel all runs, close the app and remove its files."""
    deadline = time.monotonic() + GRACE_SECONDS
    for state in list(app.state_holder.session_data.values()):
        for session in [value for value in list(state.state_data.values()) if isinstance(value, Session)]:
            session.close()
    app.app.state.end_streams()  # otherwise the server waits for the connections of open pages
    app.close(verbose=False)
    wait_for_work(deadline)
    workspace().remove()


def mcp_is_available() -> bool:
    """True if the extra ``mcp`` is installed and ``GRADIO_MCP_SERVER`` is not false; the API is then an MCP server as well."""
    return os.environ.get("GRADIO_MCP_SERVER", "").lower() != "false" and importlib.util.find_spec("mcp") is not None


def _warm_up(settings: Settings) -> None:
    """Load the built-in network before the first request, which reports errors."""
    with contextlib.suppress(RmbgError):
        warm_up(settings)
    release_memory()  # of imports and of the compilation
