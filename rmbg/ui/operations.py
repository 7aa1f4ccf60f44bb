"""Operation of the server: logs on standard error, metrics, and the routes ``/healthz`` and ``/metrics``.

Logs and metrics contain no pictures and keys; metrics contain neither visitors nor addresses.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from functools import partial
from typing import Any

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector
from starlette.datastructures import Headers
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from rmbg.billing.client_keys import ClientKeys
from rmbg.errors import NotReadyError
from rmbg.net.client import redact
from rmbg.providers import PROVIDERS, load_plugins
from rmbg.runtime import telemetry
from rmbg.runtime.telemetry import Call, Phase
from rmbg.settings import Settings
from rmbg.ui.guard.checks import FORWARDED, Origins, Refused, check_origin, is_loopback

#: Longest message in characters, and that of a traceback.
MAX_MESSAGE, MAX_TRACEBACK = 1_000, 8_000

log = logging.getLogger("rmbg.calls")


def configure(settings: Settings) -> None:
    """Write the messages of the package to standard error, by the settings for level and format; called once a process."""
    handler = logging.StreamHandler(sys.stderr)
    load_plugins()  # which may have keys
    names = {"HF_TOKEN", *(provider.info.key_name for provider in PROVIDERS.values())}
    secrets = tuple(value for name in names if (value := settings.environ.get(name, "").strip()))
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


#: Upper bounds of the buckets of a histogram, in seconds.
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180)


class ClientTotals(Collector):
    """Collector of the totals of the keys of clients, from all processes; there are none while the ledger cannot be read."""

    def __init__(self, keys: ClientKeys) -> None:
        self._keys = keys

    def collect(self) -> Iterator[CounterMetricFamily]:
        calls = CounterMetricFamily("rmbg_client_calls", "Calls of clients, by the name of the key.", labels=["key"])
        pictures = CounterMetricFamily("rmbg_client_pictures", "Pictures returned to clients.", labels=["key"])
        usd = CounterMetricFamily("rmbg_client_cost_dollars", "US dollars of clients with a known cost.", labels=["key"])
        with contextlib.suppress(NotReadyError):
            for key in self._keys.list():
                calls.add_metric([key.name], key.calls)
                pictures.add_metric([key.name], key.pictures)
                usd.add_metric([key.name], float(key.usd))
        yield from (calls, pictures, usd)


class Metrics:
    """Listener of `telemetry` that counts, and the gauges of one server.

    Parameters
    ----------
    gauges : mapping of name to (help, callable () -> float)
        Values that are read when the metrics are.
    keys : ClientKeys
        Keys of clients, whose totals are read at the same time.
    """

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]], keys: ClientKeys) -> None:
        self._registry = CollectorRegistry()
        counter = partial(Counter, registry=self._registry)
        histogram = partial(Histogram, registry=self._registry, buckets=BUCKETS)
        self._removals = counter("rmbg_removals", "Calls of providers, by outcome.", ["provider", "outcome"])
        self._seconds = histogram("rmbg_removal_seconds", "Seconds of the calls of providers.", ["provider"])
        self._phases = histogram("rmbg_phase_seconds", "Seconds of the phases of removals.", ["phase"])
        self._dollars = counter("rmbg_cost_dollars", "US dollars of the calls with a known cost.", ["provider", "basis"])
        self._unknown = counter("rmbg_cost_unknown", "Calls whose charge is unknown.", ["provider"])
        for name, (help, read) in gauges.items():
            Gauge(name, help, registry=self._registry).set_function(read)
        self._registry.register(ClientTotals(keys))
        ProcessCollector(registry=self._registry)  # memory, CPU seconds and open files, on Linux

    def text(self) -> bytes:
        """Return all metrics in the text format."""
        return generate_latest(self._registry)

    def called(self, call: Call) -> None:
        self._removals.labels(call.provider, call.state).inc()
        self._seconds.labels(call.provider).observe(call.seconds)
        if call.cost is None:
            return
        if call.cost.usd is None:
            self._unknown.labels(call.provider).inc()
        else:
            self._dollars.labels(call.provider, call.cost.basis).inc(float(call.cost.usd))

    def timed(self, phase: Phase, seconds: float) -> None:
        self._phases.labels(phase).observe(seconds)

    def __enter__(self) -> Metrics:
        telemetry.LISTENERS.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        telemetry.LISTENERS.remove(self)


class Operations:
    """ASGI middleware that answers these two routes and passes all other requests on.

    ``/healthz`` states whether the server accepts requests, under any name: load balancers send the address of the machine.
    ``/metrics`` is for programs of this machine by default; requests that a reverse proxy has forwarded get status 404.

    Parameters
    ----------
    app : ASGIApp
    origins : Origins
    access : {"local", "all", "off"}
        Who may read the metrics.
    stopping : callable () -> bool
        Returns True once the server is about to stop.
    metrics : callable () -> bytes
        Returns the metrics.
    """

    def __init__(
        self, app: ASGIApp, origins: Origins, access: str, stopping: Callable[[], bool], metrics: Callable[[], bytes]
    ) -> None:
        self._app, self._origins, self._access = app, origins, access
        self._stopping, self._metrics = stopping, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") else ""
        if path == "/healthz":
            status, state = (503, "stopping") if self._stopping() else (200, "ok")
            response: Response = JSONResponse({"status": state}, status)
        elif path == "/metrics":
            try:
                self._check(scope)
                response = Response(self._metrics(), headers={"content-type": CONTENT_TYPE_LATEST})
            except Refused as refused:
                response = JSONResponse({"detail": str(refused)}, refused.status)
        else:
            await self._app(scope, receive, send)
            return
        response.headers.update({"cache-control": "no-store", "x-content-type-options": "nosniff"})
        if scope["method"] == "HEAD":
            response.body = b""
        await response(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        check_origin(self._origins, scope, headers)
        local = is_loopback((scope.get("client") or ("", 0))[0]) and not any(name in headers for name in FORWARDED)
        if self._access == "off" or (self._access == "local" and not local):
            raise Refused(404, "Not found.")
