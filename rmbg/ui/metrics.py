"""Metrics of the server in the text format of Prometheus: totals without visitors, addresses, names or pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from rmbg import telemetry
from rmbg.telemetry import Call, Phase

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
