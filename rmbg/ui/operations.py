"""Logs of the server on standard error, as text or as JSON lines, without pictures and keys."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from rmbg.net.client import redact
from rmbg.providers import PROVIDERS
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


# Metrics of the server in the text format of Prometheus: totals without visitors, addresses, names or pictures.


#: Upper bounds of the buckets of a histogram, in seconds.
BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180)


class Metrics:
    """Listener of `telemetry` that counts, and the gauges of one server.

    Parameters
    ----------
    gauges : mapping of name to (help, callable () -> float)
        Values that are read when the metrics are.
    """

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._registry = CollectorRegistry()
        self._removals = Counter(
            "rmbg_removals", "Calls of providers, by outcome.", ["provider", "outcome"], registry=self._registry
        )
        self._seconds = Histogram(
            "rmbg_removal_seconds", "Seconds of the calls of providers.", ["provider"], registry=self._registry, buckets=BUCKETS
        )
        self._phases = Histogram(
            "rmbg_phase_seconds", "Seconds of the phases of removals.", ["phase"], registry=self._registry, buckets=BUCKETS
        )
        self._dollars = Counter(
            "rmbg_cost_dollars", "US dollars of the calls with a known cost.", ["provider", "basis"], registry=self._registry
        )
        self._unknown = Counter("rmbg_cost_unknown", "Calls whose charge is unknown.", ["provider"], registry=self._registry)
        self._registry.register(_Gauges(gauges))
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


class _Gauges(Collector):
    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        self._gauges = gauges

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for name, (help, read) in self._gauges.items():
            yield GaugeMetricFamily(name, help, value=read())


# Routes for the operation of the server: ``/healthz`` and ``/metrics``.


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
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
        elif scope["path"] == "/healthz":
            status, state = (503, "stopping") if self._stopping() else (200, "ok")
            await _respond(scope, send, status, json.dumps({"status": state}).encode())
        elif scope["path"] == "/metrics":
            try:
                self._check(scope)
            except Refused as refused:
                await _respond(scope, send, refused.status, json.dumps({"detail": str(refused)}).encode())
            else:
                await _respond(scope, send, 200, self._metrics(), CONTENT_TYPE_LATEST)
        else:
            await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        check_origin(self._origins, scope, headers)
        peer = (scope.get("client") or ("", 0))[0]
        local = is_loopback(peer) and not any(name in headers for name in FORWARDED)
        if self._access == "off" or (self._access == "local" and not local):
            raise Refused(404, "Not found.")


async def _respond(scope: Scope, send: Send, status: int, body: bytes, kind: str = "application/json") -> None:
    headers = [
        (b"content-type", kind.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
