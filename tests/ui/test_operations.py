"""Forwarded headers, the format of the log, and the rules for /healthz and /metrics, without a server."""

from __future__ import annotations

import json
import logging
from decimal import Decimal
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from rmbg.billing.client_keys import ClientKeys
from rmbg.billing.cost import Cost
from rmbg.errors import OptionError
from rmbg.runtime import telemetry
from rmbg.settings import Settings
from rmbg.ui.guard.checks import Origins, Proxies, own_hosts
from rmbg.ui.operations import Formatter, Metrics, Operations, configure

SCOPE = {
    "type": "http",
    "client": ("10.0.0.2", 4000),
    "scheme": "http",
    "headers": [(b"x-forwarded-for", b"1.1.1.1, 203.0.113.7"), (b"x-forwarded-proto", b"https"), (b"accept", b"*/*")],
}


@pytest.mark.parametrize("setting", ["private", "10.0.0.0/8", "10.0.0.2"])
def test_headers_of_a_trusted_proxy_are_used(setting):
    received = Proxies.parse((setting,), "NAME").received(SCOPE)
    assert received["client"][0] == "203.0.113.7" and received["scheme"] == "https"
    assert SCOPE["client"][0] == "10.0.0.2", "the scope itself is not changed"


@pytest.mark.parametrize("setting", ["127.0.0.1", "10.0.0.3", "192.168.0.0/16"])
def test_headers_of_others_are_removed(setting):
    received = Proxies.parse((setting,), "NAME").received(SCOPE)
    assert received["client"][0] == "10.0.0.2" and received["scheme"] == "http"
    assert received["headers"] == [(b"accept", b"*/*")]


def test_invalid_proxies_are_reported():
    with pytest.raises(OptionError, match=r"NAME has 'proxy\.example'; it must be an address"):
        Proxies.parse(("proxy.example",), "NAME")


def operations(access: str = "local", stopping: bool = False, peer: str = "127.0.0.1") -> TestClient:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("passed on")

    middleware = Operations(app, Origins(own_hosts("127.0.0.1")), access, lambda: stopping, lambda: b"rmbg_x 1\n")
    return TestClient(middleware, base_url="http://127.0.0.1", client=(peer, 1))


@pytest.mark.parametrize(
    ("access", "peer", "status"),
    [("local", "127.0.0.1", 200), ("local", "10.0.0.9", 404), ("all", "10.0.0.9", 200), ("off", "127.0.0.1", 404)],
)
def test_access_to_the_metrics(access, peer, status):
    client = operations(access, peer=peer)
    assert client.get("/metrics").status_code == status
    assert client.head("/metrics").content == b""


def test_health_while_stopping():
    assert operations().get("/healthz").json() == {"status": "ok"}
    response = operations(stopping=True).get("/healthz")
    assert response.status_code == 503 and response.headers["cache-control"] == "no-store"


def test_metrics_of_clients(tmp_path):
    keys = ClientKeys(Settings(data=tmp_path))
    metrics = Metrics({}, keys)
    assert "rmbg_client_calls_total{" not in metrics.text().decode()
    secret = keys.create("acme.example")
    keys.settle(keys.reserve("acme.example", usd=Decimal("0.05")), 2, Cost(Decimal("0.04"), "charged"))
    keys.reserve("acme.example")
    text = metrics.text().decode()
    samples = {sample.name: sample for family in text_string_to_metric_families(text) for sample in family.samples}
    names = ("rmbg_client_calls_total", "rmbg_client_pictures_total", "rmbg_client_cost_dollars_total")
    assert [samples[name].value for name in names] == [2, 2, 0.04]
    assert all(samples[name].labels == {"key": "acme.example"} for name in names) and secret not in text
    (tmp_path / "ledger.sqlite3").write_bytes(b"")
    assert "rmbg_removals" in metrics.text().decode(), "a damaged ledger does not prevent the other metrics"


def test_log_has_no_keys_of_clients(tmp_path):
    secret = ClientKeys(Settings(data=tmp_path)).create("acme")
    record = logging.LogRecord("rmbg.x", logging.ERROR, "", 1, f"X-Api-Key: {secret}, key={secret}", (), None)
    assert json.loads(Formatter(True, ()).format(record))["message"] == "X-Api-Key: [key], key=[key]"


def test_log_has_no_keys_and_pictures():
    error = ValueError("key-1:key-2 and data:image/png;base64,AAAA")
    record = logging.LogRecord("rmbg.x", logging.ERROR, "", 1, "%s\nsecond line", ("key-1:key-2 " + "A" * 500,), None)
    record.exc_info = (ValueError, error, None)
    entry = json.loads(Formatter(True, ("key-1:key-2",)).format(record))
    assert entry["message"] == "[key] [data] second line" and entry["level"] == "error"
    text = Formatter(False, ("key-1:key-2",)).format(record)
    assert "key-" not in text + json.dumps(entry) and "AAAA" not in text + json.dumps(entry)
    assert text.splitlines()[-1] == "ValueError: [key] and [picture]"


@pytest.fixture
def package():
    """The logger of the package, restored after the test."""
    logger = logging.getLogger("rmbg")
    handlers, level, propagate, listeners = logger.handlers[:], logger.level, logger.propagate, telemetry.LISTENERS[:]
    logger.handlers.clear()
    telemetry.LISTENERS.clear()
    yield logger
    logger.handlers[:], logger.propagate, telemetry.LISTENERS[:] = handlers, propagate, listeners
    logger.setLevel(level)


@pytest.mark.parametrize(("level", "logged"), [("", []), ("info", ["info"]), ("debug", ["debug", "info"])])
def test_level_of_the_log(package, capsys, level, logged):
    configure(Settings.from_environ({"RMBG_LOG_LEVEL": level, "RMBG_LOG_FORMAT": "json"}))
    with telemetry.call("builtin"), telemetry.phase("inference"):
        pass
    assert [json.loads(line)["level"] for line in capsys.readouterr().err.splitlines()] == logged
    package.warning("The disk is full.")
    assert "The disk is full." in capsys.readouterr().err
