"""Keys of clients: access to a shared server, credits, rates, providers and budgets."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from rmbg.billing.client_keys import ClientKey, ClientKeys
from rmbg.errors import NotReadyError
from rmbg.settings import Settings
from tests.remote import environment
from tests.rest.conftest import error
from tests.servers.removebg import RemoveBg


@pytest.fixture
def keys(client: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClientKeys:
    """The keys of the server, which is shared."""
    monkeypatch.setenv("RMBG_SHARED", "1")
    monkeypatch.setenv("RMBG_DATA", str(tmp_path))
    return ClientKeys(Settings.from_environ())


def key(keys: ClientKeys, name: str = "acme") -> ClientKey:
    return next(found for found in keys.list() if found.name == name)


def test_credits(client, remove, keys):
    secret = {"X-Api-Key": keys.create("acme", credits=Decimal("1.5"))}
    for size, charged, left in (("preview", "0.25", "1.25"), ("auto", "1", "0.25"), ("small", "0.25", "0")):
        response = remove(headers=secret, size=size)
        assert (response.status_code, response.headers["x-credits-charged"]) == (200, charged)
        assert key(keys).credits == Decimal(left)
        total = client.get("/v1.0/account", headers=secret).json()["data"]["attributes"]["credits"]["total"]
        assert total == float(left)
    assert error(remove(headers=secret)) == (402, "insufficient_credits")
    assert (key(keys).calls, key(keys).pictures) == (3, 3)


def test_key_without_a_limit_of_credits(client, remove, keys):
    secret = {"X-Api-Key": keys.create("acme")}
    assert remove(headers=secret).headers["x-credits-charged"] == "0.25"
    assert client.get("/v1.0/account", headers=secret).json()["data"]["attributes"]["credits"]["total"] == 1_000_000


def test_failed_calls_take_no_credits(remove, keys, disc, monkeypatch):
    secret = {"X-Api-Key": keys.create("acme", credits=Decimal(1))}
    assert error(remove({"image_file": b"no picture"}, headers=secret)) == (400, "invalid_file_type")
    disc.broken = ["photo"]
    assert error(remove(headers=secret)) == (500, "internal_error")
    monkeypatch.setattr("rmbg.rest.app.answer", lambda *_, **__: 1 / 0)
    disc.broken = []
    assert error(remove(headers=secret)) == (500, "internal_error")
    assert (key(keys).credits, key(keys).calls, key(keys).pictures, key(keys).open_usd) == (1, 3, 0, 0)


def test_invalid_and_revoked_keys(client, remove, keys, disc):
    secret = keys.create("acme")
    assert remove(headers={"X-Api-Key": secret}).status_code == 200
    keys.revoke("acme")
    for sent in ({"X-Api-Key": secret}, {"X-Api-Key": "guessed"}, {}):
        assert error(remove(headers=sent)) == (403, "auth_failed")
        assert error(client.get("/v1.0/account", headers=sent)) == (403, "auth_failed")
    assert len(disc.calls) == 1


def test_rate(remove, keys, disc):
    secret = {"X-Api-Key": keys.create("acme", rate=2)}
    for left in ("1", "0"):
        response = remove(headers=secret)
        assert response.status_code == 200
        assert (response.headers["x-ratelimit-limit"], response.headers["x-ratelimit-remaining"]) == ("2", left)
    response = remove(headers=secret)
    assert error(response) == (429, "rate_limit_exceeded") and 0 < int(response.headers["retry-after"]) <= 30
    assert response.headers["x-ratelimit-remaining"] == "0"
    assert 0 < int(response.headers["x-ratelimit-reset"]) - time.time() <= 62
    assert len(disc.calls) == 2
    assert "x-ratelimit-limit" not in remove(headers={"X-Api-Key": keys.create("other")}).headers


def test_providers_and_budget(remove, keys, tmp_path, monkeypatch):
    with RemoveBg() as service:
        for name, value in environment(service, tmp_path).items():
            monkeypatch.setenv(name, value)
        local = {"X-Api-Key": keys.create("local")}
        assert error(remove(headers=local, rmbg_provider="removebg")) == (403, "auth_failed")
        paid = {"X-Api-Key": keys.create("paid", providers=("removebg",), budget=Decimal("0.07"))}
        assert error(remove(headers=paid, rmbg_provider="builtin")) == (403, "auth_failed")
        assert not service.jobs
        assert remove(headers=paid, rmbg_provider="removebg").status_code == 200
        assert (key(keys, "paid").usd, key(keys, "paid").open_usd) == (Decimal("0.05"), 0)
        assert error(remove(headers=paid, rmbg_provider="removebg")) == (402, "insufficient_credits")
        assert len(service.jobs) == 1


def test_failed_paid_call(remove, keys, tmp_path, monkeypatch):
    with RemoveBg() as service:
        for name, value in environment(service, tmp_path).items():
            monkeypatch.setenv(name, value)
        paid = {"X-Api-Key": keys.create("paid", credits=Decimal(2), providers=("removebg",))}
        service.faults["stored"] = lambda service, exchange: exchange.drop()
        assert error(remove(headers=paid, rmbg_provider="removebg")) == (502, "provider_failed")
    assert (key(keys, "paid").credits, key(keys, "paid").usd) == (2, 0)
    assert key(keys, "paid").open_usd == Decimal("0.05"), "the charge is unknown"


def test_private_server_charges_a_key_that_it_knows(remove, keys, monkeypatch):
    secret = keys.create("acme", credits=Decimal(1))
    monkeypatch.setenv("RMBG_SHARED", "0")
    assert remove(headers={"X-Api-Key": secret}).headers["x-credits-charged"] == "0.25"
    assert remove(headers={"X-Api-Key": "of remove.bg"}).headers["x-credits-charged"] == "0"
    assert key(keys).credits == Decimal("0.75")


def test_result_is_delivered_if_its_call_cannot_be_settled(remove, keys, monkeypatch):
    def fail(*_: object) -> None:
        raise NotReadyError("The ledger cannot be written.")

    secret = {"X-Api-Key": keys.create("acme", credits=Decimal(1))}
    monkeypatch.setattr(ClientKeys, "settle", fail)
    assert remove(headers=secret).status_code == 200
    assert key(keys).credits == Decimal("0.75")


def test_unreadable_ledger(remove, keys, tmp_path, monkeypatch):
    secret = {"X-Api-Key": keys.create("acme")}
    (tmp_path / "ledger.sqlite3").write_bytes(b"damaged " * 1000)
    response = remove(headers=secret)
    assert error(response) == (503, "provider_not_ready") and str(tmp_path) not in response.text
    monkeypatch.setenv("RMBG_SHARED", "0")
    assert remove(headers=secret).status_code == 200
