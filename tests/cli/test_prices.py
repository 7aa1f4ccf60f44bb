"""The command prices: order, amounts, unknown prices, formats, prices of the owner."""

from __future__ import annotations

import csv
import io
import json
from datetime import date
from decimal import Decimal

import pytest

from rmbg.billing.quote import OWN_PRICES
from rmbg.cli.prices import table
from rmbg.cli.providers import dated_price
from rmbg.providers import PROVIDERS
from rmbg.providers.cascade import THRESHOLD, quote_steps
from rmbg.providers.prices import service_prices
from rmbg.settings import Settings

SERVICES = {name for name, provider in PROVIDERS.items() if provider.info.price is not None}


@pytest.fixture
def own(tmp_path, monkeypatch) -> Settings:
    """Settings with the owner's prices in the data folder."""
    entries = (("fal-rmbg-2.0", "0.001", "2026-05", "contract"), ("runware-rmbg-2.0", "0", "2026-11", "own"))
    text = "".join(f"[{id!r}]\nusd = {usd}\nseen = {seen!r}\nsource = {note!r}\n" for id, usd, seen, note in entries)
    (tmp_path / OWN_PRICES).write_text(text)
    monkeypatch.setenv("RMBG_DATA", str(tmp_path))
    return Settings.from_environ()


def test_services_are_sorted_by_price_and_unknown_ones_are_last(own):
    prices = service_prices(own)
    known = [price.cost.usd for price in prices if price.cost.usd is not None]
    assert {price.id for price in prices} == SERVICES and known == sorted(known)
    assert (prices[0].id, prices[0].cost.usd) == ("runware-rmbg-2.0", 0)
    unknown = prices[len(known) :]
    assert "hf-rmbg-2.0" in {price.id for price in unknown}
    assert {usd for price in unknown for name, usd in price.fields().items() if name.startswith("usd")} == {None}


def test_price_after_the_builtin_network_is_that_of_a_cascade():
    settings = Settings(environ={"REMOVEBG_API_KEY": "k"})
    quoted = quote_steps([PROVIDERS["builtin"], PROVIDERS["removebg"]], THRESHOLD, Decimal(1), settings)
    (price,) = (price for price in service_prices(settings) if price.id == "removebg")
    assert price.after_builtin == quoted.cost and 0 < price.after_builtin.usd < price.cost.usd == Decimal("0.05")


def test_tables_show_old_prices_as_those_of_their_month(own):
    rows = {row[0]: row for row in table(service_prices(own), date(2026, 12, 1))}
    assert rows["fal-rmbg-2.0"][1:] == (
        "$0.001", "$1.00", "$100", "$0.00022", "listed", "price of 2026-05", "", "contract"
    )  # fmt: skip
    assert rows["removebg"][6:8] == ("seen 2026-11", "50 previews a month") and rows["hf-rmbg-2.0"][1:7] == (
        *"––––",
        "unknown",
        "",
    )
    assert dated_price(PROVIDERS["fal-rmbg-2.0"].info, own, date(2026, 12, 1)) == "$0.001 listed, price of 2026-05"
    assert dated_price(PROVIDERS["removebg"].info, own, date(2026, 12, 1)) == "$0.05 listed, seen 2026-11"
    assert dated_price(PROVIDERS["builtin"].info, own) == "own hardware"


def test_formats(own, rmbg):
    status, text, error = rmbg("prices")
    lines = text.splitlines()
    assert (status, error) == (0, "") and {line.split()[0] for line in lines[1:-2]} == SERVICES
    assert lines[-1].startswith("builtin: about $0.0000") and lines[-1].endswith(" for 100,000 a month.")
    data = json.loads(rmbg("prices", "--json")[1])
    assert data["doubtful_share"] == 0.22 and data["builtin"]["usd"] > 0
    rows = list(csv.DictReader(io.StringIO(rmbg("prices", "--csv")[1])))
    assert [row["id"] for row in rows] == [service["id"] for service in data["services"]]
    for row, service in zip(rows, data["services"], strict=True):
        assert {name: text or None for name, text in row.items() if not name.startswith("usd")} == {
            name: value for name, value in service.items() if not name.startswith("usd")
        }
        assert all((float(row[name]) if row[name] else None) == service[name] for name in row if name.startswith("usd"))
    assert rmbg("prices", "--json", "--csv")[0] == 2


def test_invalid_prices_are_one_sentence(own, rmbg, monkeypatch, tmp_path):
    monkeypatch.setenv("RMBG_PRICES", str(tmp_path / "none.toml"))
    for command in ("prices", "providers"):
        status, out, error = rmbg(command)
        assert (status, out) == (2, "") and error.startswith("rmbg: The price list ") and error.count("\n") == 1
