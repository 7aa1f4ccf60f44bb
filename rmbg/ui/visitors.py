"""Gradio's per-visitor state with a limit, and an eviction policy that is fair between client addresses."""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

from fastapi import HTTPException
from gradio.blocks import Blocks
from gradio.components import State
from gradio.state_holder import SessionState, StateHolder

from rmbg.ui.guard.middleware import CLIENT
from rmbg.ui.languages import t
from rmbg.ui.storage import VISITOR


class VisitorState(SessionState):
    """Gradio's state of a visitor without the configuration of all components.

    Gradio keeps it, and a copy of the last value of each component, for its deep links, which this app does not offer. It would
    take about 1 MB a visitor.
    """

    def __init__(self, blocks: Blocks) -> None:
        super().__init__(blocks)
        self.config_values = {}

    def __setitem__(self, key: int, value: Any) -> None:
        super().__setitem__(key, value)
        self.config_values = {}

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass


class Visitors(StateHolder):
    """States of at most `limit` visitors, for `seconds` after the last page of a visitor was closed.

    An open page or Gradio client holds a connection. States with such a connection, or with a call in the queue, are never
    evicted. Of the others, the least recently used one of the address with the most states is evicted. If every state is in
    use, new visitors are rejected with status 503.
    """

    def __init__(self, limit: int, seconds: float) -> None:
        super().__init__()
        self._limit, self.seconds = limit, seconds
        self._pages: Counter[str] = Counter()
        self._address: dict[str, str] = {}

    def __getitem__(self, session_id: str) -> SessionState:
        if session_id not in self.session_data:
            self._make_room()
            self._address[session_id] = CLIENT.get()
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
        busy = self._busy()
        for session_id, used in list(self.time_last_used.items()):
            expired = (now - used).total_seconds() > self.seconds
            if expired and not self.is_live(session_id) and session_id not in busy:
                self._drop(session_id)

    def _busy(self) -> set[str]:
        """Visitors whose calls wait in the queue or run."""
        return {str(event.session_hash) for event in list(self.blocks._queue.event_ids_to_events.values())}

    def _make_room(self) -> None:
        if len(self.session_data) < self._limit:
            return
        busy = self._busy()
        idle = [name for name in list(self.session_data) if not self.is_live(name) and name not in busy]
        if not idle:
            raise HTTPException(503, t("The server has reached its limit of visitors. Try again in a few minutes."))
        address = Counter(self._address.get(name, "") for name in idle).most_common(1)[0][0]
        self._drop(next(name for name in idle if self._address.get(name, "") == address))

    def _drop(self, session_id: str) -> None:
        """Delete the state of a visitor; its delete callbacks, which remove files, run outside of the event loop."""
        state = self.session_data.pop(session_id, None)
        self.time_last_used.pop(session_id, None)
        self._address.pop(session_id, None)
        if state is not None:
            threading.Thread(target=_run_delete_callbacks, args=(session_id, state), daemon=True).start()


def _run_delete_callbacks(session_id: str, state: SessionState) -> None:
    VISITOR.set(session_id)
    for key, value in list(state.state_data.items()):
        block = state.blocks_config.blocks.get(key)
        if isinstance(block, State):
            block.delete_callback(value)
