"""The command ``keys``, and the spending by key in ``spent``."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest

from rmbg.billing.client_keys import ClientKeys
from rmbg.billing.cost import Cost
from rmbg.settings import Settings
from tests.sentences import sentence


@pytest.fixture(autouse=True)
def keys(monkeypatch, tmp_path):
    monkeypatch.setenv("RMBG_DATA", str(tmp_path / "data"))
    return ClientKeys(Settings.from_environ())


def test_create_list_and_revoke(rmbg, keys):
    limits = ["--credits", 100, "--rate", 60, "--provider", "builtin", "--provider", "removebg", "--budget", "$2.50"]
    status, out, err = rmbg("keys", "create", "acme", *limits)
    assert status == 0 and out.count("\n") == 1 and "cannot be shown again" in sentence(err.rstrip("\n"))
    secret = out.strip()
    key = keys.find(secret)
    assert (key.name, key.credits, key.rate, key.providers) == ("acme", 100, 60, ("builtin", "removebg"))
    assert key.budget == Decimal("2.50") and secret not in err
    status, out, err = rmbg("keys", "list")
    assert status == 0 and out.splitlines()[1].split()[:6] == ["acme", "100", "60", "builtin,", "removebg", "$2.50"]
    status, out, err = rmbg("keys", "revoke", "acme")
    assert (status, out) == (0, "") and "The key acme is revoked." in err
    assert keys.find(secret) is None
    listed = json.loads(rmbg("keys", "list", "--json")[1])["keys"]
    assert [(key["name"], key["revoked"]) for key in listed] == [("acme", True)]
    assert secret not in json.dumps(listed)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["create"], "needs the NAME of a key"),
        (["create", "acme"], "There is a key acme already"),
        (["create", "a b"], "The name of the key is 'a b'"),
        (["create", "b", "--credits", "-1"], "--credits is '-1'"),
        (["create", "b", "--credits", "many"], "--credits is 'many'"),
        (["create", "b", "--credits", "2000000"], "from 0 to 1,000,000"),
        (["create", "b", "--rate", "0"], "from 1 to 100,000 calls a minute"),
        (["create", "b", "--budget", "nan"], "--budget is 'nan'"),
        (["create", "b", "--provider", "nope"], "There is no provider 'nope'"),
        (["create", "b", "--json"], "--json is for keys list"),
        (["revoke", "b"], "There is no key 'b'; choose from acme."),
        (["revoke", "acme", "--rate", "1"], "--rate is for keys create"),
        (["list", "acme"], "keys list has no NAME"),
    ],
)
def test_invalid_input_is_one_sentence(rmbg, keys, words, expected):
    keys.create("acme")
    status, out, err = rmbg("keys", *words)
    assert (status, out) == (2, "") and expected in sentence(err.rstrip("\n"))
    assert [key.name for key in keys.list() if not key.revoked] == ["acme"]


def test_unwritable_data_folder(rmbg, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("RMBG_DATA", str(tmp_path / "file"))
    status, out, err = rmbg("keys", "create", "acme")
    assert (status, out) == (1, "") and "cannot be written" in sentence(err.rstrip("\n")) and "RMBG_DATA" in err


def test_spending_by_key(rmbg, keys):
    keys.create("acme")
    keys.create("unused")
    keys.settle(keys.reserve("acme", usd=Decimal("0.05")), 1, Cost(Decimal("0.04"), "charged"))
    keys.reserve("acme", usd=Decimal("0.05"))
    out = rmbg("spent")[1]
    assert "acme 2 1 $0.04 $0.05" in [" ".join(line.split()) for line in out.splitlines()]
    assert "PROVIDER" not in out and "unused" not in out and "Today (UTC)" in out
    expected = {"name": "acme", "calls": 2, "pictures": 1, "usd": 0.04, "open_usd": 0.05}
    assert json.loads(rmbg("spent", "--json")[1])["keys"] == [expected]
    keys.settle(keys.reserve("unused", now=0.0), 1)
    assert "unused" not in rmbg("spent")[1]
    assert "unused" in rmbg("spent", "--days", "36500")[1]
