"""Setup of Gradio's server: hosts, middleware, bounded visitor states, and removal of expired files."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio.to_thread
import gradio as gr
from gradio.state_holder import SessionState

from rmbg.billing.client_keys import ClientKeys
from rmbg.errors import RmbgError
from rmbg.rest.app import Api, Call, Machine
from rmbg.rest.removebg import Answer
from rmbg.runtime.threads import on_one_core, one_core
from rmbg.settings import Settings
from rmbg.ui import sign_in
from rmbg.ui.batch import max_bytes
from rmbg.ui.components.inputs import DECODED
from rmbg.ui.drafts import Drafts
from rmbg.ui.gradio_overrides import Visitors, page_files, queued
from rmbg.ui.guard.checks import Origins, Proxies, is_loopback, own_hosts, parse_hosts, public_hosts
from rmbg.ui.guard.connections import CLIENT, watch
from rmbg.ui.guard.limits import Limits
from rmbg.ui.guard.middleware import Guard
from rmbg.ui.lanes import CORES, DEVICE, LOCAL, SERVICES, memory_for
from rmbg.ui.operations import Metrics, Operations
from rmbg.ui.pages import Pages
from rmbg.ui.session import Session
from rmbg.ui.sign_in import SignInPages
from rmbg.ui.storage import storage

log = logging.getLogger(__name__)

#: Visitors whose state is kept; every state contains a copy of the page's configuration.
MAX_VISITORS = 500

#: Seconds between two sweeps of the visitors' files.
SWEEP_SECONDS = 15


def check_address(host: str) -> None:
    """Raise RmbgError if `host` is not an address of this machine."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host.strip("[]"), 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family) as probe:
            probe.bind(address)
    except (OSError, UnicodeError):
        raise RmbgError(
            f"The server cannot listen on {host}: this machine has no such address. Use 127.0.0.1, or 0.0.0.0 for all."
        ) from None


def set_shared(bound: str, *, share: bool, settings: Settings) -> None:
    """Set ``RMBG_SHARED=1`` if the server is reachable from other machines, unless the variable has a value.

    It is reachable if it listens on more than loopback or has a public link. A root path, and the name of another host, imply a
    reverse proxy.
    """
    names = [bound, *(name.host.strip("[]") for name in parse_hosts(settings.allow_hosts, "RMBG_ALLOW_HOSTS"))]
    if share or settings.environ.get("GRADIO_ROOT_PATH") or not all(is_loopback(name) for name in names):
        os.environ.setdefault("RMBG_SHARED", "1")


def origins_of(bound: str, settings: Settings) -> Origins:
    """Return the hosts of a server that listens on `bound`. A shared server without a list of hosts accepts every name."""
    listed = parse_hosts(settings.allow_hosts, "RMBG_ALLOW_HOSTS")
    return Origins(own_hosts(bound), (*listed, *public_hosts(settings.environ)), any_host=settings.shared and not listed)


def lifespan(blocks: gr.Blocks, origins: Origins, proxies: Proxies, settings: Settings) -> Callable[[Any], Any]:
    """Return the lifespan of the ASGI app, which starts when the app is complete and before the first connection.

    Gradio places middleware that is passed to it inside its own. Only here can the guard wrap the complete stack.
    """

    @contextlib.asynccontextmanager
    async def run(app: Any) -> AsyncIterator[None]:
        visitors = Visitors(MAX_VISITORS, settings.visit_seconds, _in_use)
        visitors.set_blocks(blocks)
        app.state_holder = visitors
        plain = app.middleware_stack
        can_sign_in = sign_in.available(settings.environ)
        guard = Guard(
            Api(Drafts(Pages(SignInPages(plain) if can_sign_in else plain, keep=not can_sign_in)), MACHINE),
            origins=origins,
            proxies=proxies,
            limits=Limits(settings.session_bytes, lambda: [call.request.scope for call in queued(blocks)]),
            max_bytes=settings.max_bytes,
            max_upload=largest_upload(settings),
            embeddable="SPACE_ID" in settings.environ,
            sign_in=can_sign_in,
            proxied=_proxied,
            open_page=visitors.open_page,
        )
        metrics = Metrics(_gauges(blocks, visitors), ClientKeys(settings))
        app.middleware_stack = Operations(guard, origins, settings.metrics, guard.ending.is_set, metrics.text)
        loop = asyncio.get_running_loop()
        app.state.end_streams = lambda: loop.call_soon_threadsafe(guard.ending.set)
        tasks = [
            asyncio.create_task(_sweep(blocks, visitors)),
            asyncio.create_task(watch(lambda: getattr(blocks, "server", None), proxies.trust)),
        ]
        try:
            with metrics:
                yield
        finally:
            app.middleware_stack = plain  # Gradio starts again, on the next port, if another process has taken this one
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return run


async def _run(call: Call, work: Callable[[], Answer]) -> Answer:
    provider = call.removal.provider
    if call.client is not None:
        CLIENT.set(f"key {call.client.name}")  # in the task of this call, for all of its queues
    if provider.small_network and call.removal.alpha_matting is None:
        return await CORES.run(call.token, _on_one_core, work)
    return await (LOCAL if provider.info.kind == "local" else SERVICES).run(call.token, work)


def _on_one_core(work: Callable[[], Answer]) -> Answer:
    """Call `work` on one core, or on all of them if it is the only request."""
    with on_one_core() if CORES.busy else contextlib.nullcontext():
        return work()


def _device(check: Callable[[], None]) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext() if one_core() else DEVICE.turn(check, bounded=False)


#: The resources of remove.bg's API are those of the page's; its lanes bound the calls that wait for the device.
MACHINE = Machine(_run, _device, memory_for)


def largest_upload(settings: Settings) -> int:
    """Return the limit of an upload in bytes: a photo, or all photos of a batch."""
    return max(settings.max_bytes, max_bytes(settings))


def _in_use(state: SessionState) -> bool:
    """True if a visitor has results or an active run."""
    return any(isinstance(value, Session) and value.in_use for value in list(state.state_data.values()))


def _proxied() -> None:
    """Mark the server as shared: a reverse proxy implies that users besides the owner may reach it."""
    if "RMBG_SHARED" not in os.environ and not Settings.from_environ().shared:
        os.environ["RMBG_SHARED"] = "1"
        log.warning(
            "A request was forwarded by a reverse proxy. From now on this server counts as shared, and its keys are not used "
            "for visitors. Set RMBG_SHARED=0 to keep it private, or RMBG_SHARED=1 to make it shared from the start."
        )


def _gauges(blocks: gr.Blocks, visitors: Visitors) -> dict[str, tuple[str, Callable[[], float]]]:
    """Gauges of the metrics: help text, and a function that returns the value."""
    return {
        "rmbg_queue_length": ("Calls that wait in the queue or run.", lambda: len(queued(blocks))),
        "rmbg_device_waiting": ("Calls that wait for the device.", lambda: DEVICE.waiting),
        "rmbg_services_waiting": ("Calls of the API that wait for a slot of the services.", lambda: SERVICES.waiting),
        "rmbg_visitors": ("Visitors whose state is kept.", lambda: len(visitors.session_data)),
        "rmbg_storage_bytes": ("Bytes of the visitors' files.", lambda: storage().bytes_of()),
    }


async def _sweep(blocks: gr.Blocks, visitors: Visitors) -> None:
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            DECODED.sweep()
            in_use = page_files(blocks) | _paths_in([getattr(call.data, "data", None) for call in queued(blocks)])
            removed = await anyio.to_thread.run_sync(storage().sweep, visitors.is_live, in_use)
            for paths in blocks.temp_file_sets:
                paths -= removed
        except Exception:
            log.exception("Removal of expired files failed")


def _paths_in(value: Any) -> set[str]:
    """All values of the key ``path`` in nested JSON."""
    if isinstance(value, dict):
        own = {value["path"]} if isinstance(value.get("path"), str) else set()
        return own.union(*(_paths_in(item) for item in value.values()))
    if isinstance(value, list):
        return set().union(*(_paths_in(item) for item in value))
    return set()
