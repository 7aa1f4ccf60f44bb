"""Logs of the server on standard error, as text or as JSON lines, without pictures and keys."""

from __future__ import annotations

import json
import logging
import sys
from datetime import datetime, timezone
from typing import Any

from rmbg import telemetry
from rmbg.net.client import redact
from rmbg.providers import PROVIDERS
from rmbg.settings import Settings
from rmbg.telemetry import Call, Phase

#: Longest message in characters, and that of a traceback.
MAX_MESSAGE, MAX_TRACEBACK = 1_000, 8_000

log = logging.getLogger("rmbg.calls")


def configure(settings: Settings) -> None:
    """Write the messages of the package to standard error, by the settings for level and format; called once a process."""
    handler = logging.StreamHandler(sys.stderr)
    secrets = tuple(value for name in _key_names() if (value := settings.environ.get(name, "").strip()))
    handler.setFormatter(Formatter(settings.log_format == "json", secrets))
    package = logging.getLogger("rmbg")
    package.addHandler(handler)
    package.setLevel(settings.log_level.upper())
    package.propagate = False
    telemetry.LISTENERS.append(CallLog())


class Formatter(logging.Formatter):
    """One line a message; keys and image data are replaced, long text is cut.

    Parameters
    ----------
    as_json : bool
        One JSON object a line, with time, level, logger, message and the fields of the message.
    secrets : tuple of str
        Keys of this server.
    """

    def __init__(self, as_json: bool, secrets: tuple[str, ...]) -> None:
        super().__init__()
        self._as_json, self._secrets = as_json, secrets

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage(), self._secrets, MAX_MESSAGE),
            **getattr(record, "fields", {}),
        }
        trace = "" if record.exc_info is None else self.formatException(record.exc_info)
        lines = [redact(line, self._secrets, MAX_MESSAGE) for line in trace[-MAX_TRACEBACK:].splitlines()]
        if self._as_json:
            return json.dumps(entry | ({"traceback": lines} if lines else {}))
        return "\n".join([f"{entry['time']} {entry['level']} {entry['logger']}: {entry['message']}", *lines])


class CallLog:
    """Listener of `telemetry` that logs each call of a provider at level INFO, and the phases at level DEBUG."""

    def called(self, call: Call) -> None:
        usd = None if call.cost is None or call.cost.usd is None else float(call.cost.usd)
        fields = {
            "provider": call.provider,
            "outcome": call.state,
            "seconds": round(call.seconds, 3),
            "usd": usd,
            "basis": None if call.cost is None else call.cost.basis,
        }
        log.info("%s: %s in %.2f s", call.provider, call.state, call.seconds, extra={"fields": fields})

    def timed(self, phase: Phase, seconds: float) -> None:
        log.debug("%s: %.3f s", phase, seconds, extra={"fields": {"phase": phase, "seconds": round(seconds, 3)}})


def _key_names() -> set[str]:
    return {provider.info.key_name for provider in PROVIDERS.values() if provider.info.key_name} | {"HF_TOKEN"}
