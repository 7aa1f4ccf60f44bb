"""Everything in which this app changes Gradio or uses its internals, besides the import, which `rmbg.ui` prepares.

``tests/ui/test_gradio_overrides.py`` has a test of each part, and states for which version of Gradio it was written.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import gradio as gr
from gradio.blocks import BlockFunction
from gradio.data_classes import BlocksConfigDict
from gradio.exceptions import ComponentProcessingError
from gradio.queueing import Event, EventQueue, ProcessTime
from gradio.state_holder import SessionState, StateHolder
from starlette.exceptions import HTTPException

from rmbg.ui.guard.connections import CLIENT, address_of, network_of, networks_of, shared
from rmbg.ui.guard.payload import INVALID, checked
from rmbg.ui.lanes import Client, FairQueue
from rmbg.ui.languages import DEFAULT, LANGUAGE, localized, page_error, preferred, speaking, t, texts_script
from rmbg.ui.storage import VISITOR

#: Seconds between two checks of Gradio's queues. Gradio's own interval of 1 ms takes a tenth of a core on an idle server.
QUEUE_INTERVAL = 0.01


class CheckedBlocks(gr.Blocks):
    """``gr.Blocks`` in the language of each request, whose events run only with values that the page can send.

    It is built within `rmbg.ui.languages.marked`. The API is described in English. `preprocess_data` is on the path of every
    event: from the queue, from direct calls and from the API.

    Attributes
    ----------
    optional : dict of str to int
        Number of values at the end of a request that may be missing, by name of the API endpoint: parameters that were added
        later, which then have their defaults.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.optional: dict[str, int] = {}

    @property
    def config(self) -> BlocksConfigDict:
        """Configuration of the page in the language of the request; computed once for each language."""
        language = LANGUAGE.get()
        if language not in self._localized:
            found = localized(self._config)
            self._localized[language] = {**found, "head": texts_script() + (found["head"] or "")}
        return self._localized[language]

    @config.setter
    def config(self, value: BlocksConfigDict) -> None:
        self._config = value
        self._localized: dict[str, Any] = {}

    def get_api_info(self, *args: Any, **kwargs: Any) -> Any:
        """Return the description of the API, which Gradio keeps for all visitors."""
        with speaking(DEFAULT):
            return super().get_api_info(*args, **kwargs)

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Process an event in the language of its request, and for the client that sent it."""
        request = kwargs.get("request")
        LANGUAGE.set(DEFAULT if request is None else preferred(request.headers.get("accept-language", "")))
        CLIENT.set("" if request is None else address_of(getattr(request, "request", request).scope))
        try:
            return await super().process_api(*args, **kwargs)
        except HTTPException as error:  # Gradio would send no message, and print a traceback
            raise page_error(str(error.detail)) from None

    async def preprocess_data(
        self, block_fn: BlockFunction, inputs: list[Any], state: SessionState | None, explicit_call: bool = False
    ) -> list[Any]:
        """Check the number of the values and each value, before Gradio converts them."""
        expected = len(block_fn.inputs) - self.optional.get(str(block_fn.api_name), 0)
        if len(inputs) < expected:  # Gradio's own message contains the values, including keys
            raise page_error(
                t("The request has {given} values. This function takes {expected}.", given=len(inputs), expected=expected)
            )
        inputs = [*inputs, *(getattr(block, "value", None) for block in block_fn.inputs[len(inputs) :])]
        inputs = [await checked(value, block) for value, block in zip(inputs, block_fn.inputs, strict=False)]
        with _plain_errors():
            return await super().preprocess_data(block_fn, inputs, state, explicit_call)

    async def call_function(self, *args: Any, **kwargs: Any) -> Any:
        """Call the event handler; Gradio checks the file references in the data of the event before."""
        with _plain_errors():
            return await super().call_function(*args, **kwargs)


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Replace Gradio's own errors, whose messages contain the value and names of Python types, by one sentence."""
    try:
        yield
    except ComponentProcessingError:
        raise page_error(INVALID) from None
    except gr.Error as error:
        if error.print_exception:
            raise page_error(INVALID) from None
        raise


def report_hidden_progress_to(component: Any, app: gr.Blocks) -> None:
    """Make `component` the only one that receives the status of events whose progress is hidden.

    For each status, the page searches its tree once for every component that has ever been an output of an event. Events of
    ``gr.render`` are left as they are: without a status, their containers are not hidden while they are empty.
    """
    for event in app.fns.values():
        if event.show_progress == "hidden" and event.show_progress_on is None and event.renderable is None:
            event.show_progress_on = [component]


class NoEstimates(dict[BlockFunction, ProcessTime]):
    """Run times of a queue that are not stored, so that the page shows elapsed seconds without an expected total.

    Gradio's estimate is the mean of all earlier runs, of small and large photos and of all providers of a kind, so every other
    run exceeds it.
    """

    def __missing__(self, function: BlockFunction) -> ProcessTime:
        return ProcessTime()


class FairQueues(dict[str, EventQueue]):
    """Gradio's queues, each of which serves the clients in turn."""

    def __setitem__(self, name: str, queue: EventQueue) -> None:
        queue.queue = FairQueue(_client_of)
        super().__setitem__(name, queue)


def _client_of(event: Event) -> Client:
    return Client(network_of(address_of(event.request.scope)), event.session_hash)


def set_up_queue(app: gr.Blocks) -> None:
    """Make the queue fair, reduce its idle load, and leave out its estimates."""
    app._queue.event_queue_per_concurrency_id = FairQueues()
    app._queue.process_time_per_fn = NoEstimates()  # type: ignore[assignment]
    app._queue.sleep_when_free = QUEUE_INTERVAL


def queued(blocks: gr.Blocks) -> list[Any]:
    """Return the calls that wait in the queue or run."""
    return list(blocks._queue.event_ids_to_events.values())


def page_files(blocks: gr.Blocks) -> set[str]:
    """Return the paths of the page's own files, such as its examples."""
    return {str(path) for block in list(blocks.blocks.values()) for path in getattr(block, "keep_in_cache", ())}


class VisitorState(SessionState):
    """Gradio's state of a visitor without the configuration of all components.

    Gradio keeps it, and a copy of the last value of each component, for its deep links, which this app does not offer. It would
    take about 1 MB a visitor, and as long to create as the page.
    """

    def __init__(self, blocks: gr.Blocks) -> None:
        super().__init__(SimpleNamespace(default_config=blocks.default_config, blocks=()))  # type: ignore[arg-type]

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values = {}

    def _update_config(self, key: int, value: Any = None) -> None:
        pass

    _update_value_in_config = _update_config


#: Part of the places of the visitors that one network may have.
NETWORK_SHARE = 4

FULL = "The server has reached its limit of visitors. Try again in a few minutes."
FULL_NETWORK = "The server has reached its limit of visitors from your network. Try again in a few minutes."


class NoPlaceError(gr.Error, HTTPException):
    """Raised in an event, whose client receives the message, and in a request, which is answered with status 503."""

    def __init__(self, message: str) -> None:
        gr.Error.__init__(self, t(message), title=t("Error"), print_exception=False)
        self.status_code, self.detail, self.headers = 503, self.message, None


class Visitors(StateHolder):
    """States of at most `limit` visitors, for `seconds` after the last page of a visitor was closed.

    An open page or Gradio client holds a connection. If there is no room for a new visitor, a state without results is evicted,
    first of those without a connection; then one with results and without a connection; always the least recently used one of
    the network with the most. If there is none, new visitors are rejected. On a shared server the same applies to the visitors
    of one network, who have a quarter of the places.

    Parameters
    ----------
    limit : int
    seconds : float
    in_use : callable (SessionState) -> bool
        True if a visitor has results or an active run.
    """

    def __init__(self, limit: int, seconds: float, in_use: Callable[[SessionState], bool]) -> None:
        super().__init__()
        self._limit, self.seconds, self._in_use = limit, seconds, in_use
        self._pages: Counter[str] = Counter()
        self._networks: dict[str, dict[str, int]] = {}

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            # The context of an event in the queue is not that of its request.
            scopes = [call.request.scope for call in queued(self.blocks) if str(call.session_hash) == session_id]
            networks = networks_of(address_of(scopes[0]) if scopes else CLIENT.get())
            self._make_room(networks)
            self._networks[session_id] = networks
            self.session_data[session_id] = VisitorState(self.blocks)
        VISITOR.set(session_id)
        return super().__getitem__(session_id)

    def update(self, session_id: str) -> None:
        """Mark a state as used. Unlike in the base class nothing is evicted here; `__getitem__` does that."""
        with self.lock:
            if session_id in self.session_data:
                self.session_data.move_to_end(session_id)

    @contextlib.contextmanager
    def open_page(self, session_id: str) -> Iterator[None]:
        """Count a page of this visitor as connected for the duration of the block."""
        self._pages[session_id] += 1
        try:
            yield
        finally:
            self._pages[session_id] -= 1
            if not self._pages[session_id]:
                del self._pages[session_id]
                if session_id in self.session_data:  # the lifetime begins when the page is closed
                    self.time_last_used[session_id] = datetime.datetime.now()

    def is_live(self, session_id: str) -> bool:
        """True if a page of this visitor is connected."""
        return session_id in self._pages

    def release(self, session_id: str, value: object) -> None:
        """Remove `value` from the state of a visitor without its delete callback: another visitor has taken it over."""
        state = self.session_data.get(session_id)
        if state is not None:
            for key in [key for key, other in list(state.state_data.items()) if other is value]:
                state.state_data.pop(key, None)

    def delete_all_expired_state(self) -> None:
        """Drop expired states; Gradio calls this every second, in the event loop."""
        now = datetime.datetime.now()
        for session_id in self._idle():
            if (now - self.time_last_used.get(session_id, now)).total_seconds() > self.seconds:
                self._drop(session_id)

    def _idle(self) -> list[str]:
        """Visitors without an open page, and without a call that waits in the queue or runs; least recently used first."""
        busy = {str(call.session_hash) for call in queued(self.blocks)}
        return [name for name in list(self.session_data) if not self.is_live(name) and name not in busy]

    def _make_room(self, networks: dict[str, int]) -> None:
        """Evict a state if a visitor of these networks has no room; raises NoPlaceError if no state can be evicted."""
        for network, factor in networks.items():
            same = [name for name, others in self._networks.items() if network in others]
            if len(same) >= factor * self._limit // NETWORK_SHARE and shared():
                self._evict(same, FULL_NETWORK)
        if len(self.session_data) >= self._limit:
            self._evict(list(self.session_data), FULL)

    def _evict(self, names: list[str], message: str) -> None:
        busy = {str(call.session_hash) for call in queued(self.blocks)}
        free = [name for name in self.session_data if name in names and name not in busy]
        kinds = {name: (self._in_use(self.session_data[name]), self.is_live(name)) for name in free}
        for kind in ((False, False), (False, True), (True, False)):
            found = {name: next(iter(self._networks[name])) for name in free if kinds[name] == kind}
            if found:
                largest = Counter(found.values()).most_common(1)[0][0]
                self._drop(next(name for name, network in found.items() if network == largest))
                return
        raise NoPlaceError(message)

    def _drop(self, session_id: str) -> None:
        """Delete the state of a visitor; its delete callbacks, which remove files, run outside of the event loop."""
        self.time_last_used.pop(session_id, None)
        self._networks.pop(session_id, None)
        state = self.session_data.pop(session_id, None)
        if state is not None:
            threading.Thread(target=_run_delete_callbacks, args=(session_id, state), daemon=True).start()


def _run_delete_callbacks(session_id: str, state: SessionState) -> None:
    VISITOR.set(session_id)
    for key, value in list(state.state_data.items()):
        block = state.blocks_config.blocks.get(key)
        if isinstance(block, gr.State):
            block.delete_callback(value)
