"""Quotes: price list, options, the owner's own prices, sums, text format."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from rmbg.billing.cost import Cost, dollars
from rmbg.billing.quote import Estimate, estimate, quote, read_in
from rmbg.providers import PROVIDERS
from rmbg.replace import INFO as REPLACE
from rmbg.settings import Settings

DEFAULT = Settings()


def info(name: str):
    return PROVIDERS[name].info


@pytest.mark.parametrize(
    ("name", "options", "credit", "usd", "reserve"),
    [
        ("fal-rmbg-2.0", {}, None, "0.018", "0.018"),
        ("runware-rembg-1.4", {}, "0.20", "0.0013", "0.0013"),
        ("removebg", {}, None, "0.05", "0.05"),
        ("removebg", {"size": "preview"}, None, "0.0125", "0.0125"),
        ("removebg", {"size": "full"}, "0.20", "0.20", "0.20"),
        ("removebg", {"size": "preview"}, "0.20", "0.05", "0.05"),
        ("removebg", {}, "0", "0", "0"),
        ("hf-rmbg-2.0", {}, None, None, "0.018"),
    ],
)
def test_prices(name, options, credit, usd, reserve):
    settings = Settings(removebg_credit_usd=None if credit is None else Decimal(credit))
    price = quote(info(name), options, settings)
    assert price.cost.usd == (None if usd is None else Decimal(usd)) and price.reserve == Decimal(reserve)
    assert not price.local and price.images == 1


def test_several_pictures():
    price = quote(REPLACE, {"num_images": 3}, DEFAULT)
    assert (price.cost, price.reserve, price.images) == (Cost(Decimal("0.069"), "listed"), Decimal("0.069"), 3)
    month = REPLACE.price_seen
    today = date.fromisoformat(f"{month}-20")
    assert price.details(today) == f"$0.069 (listed, seen {month}), $2,300 for 100,000 a month"
    assert price.details(today.replace(year=today.year + 1)).startswith(f"$0.069 (listed, price of {month})")


def test_own_hardware_is_estimated_and_not_charged():
    price = quote(info("builtin"), {}, Settings(hourly_usd=Decimal(3600)))
    assert price.local and price.cost == Cost(Decimal(str(info("builtin").seconds)), "estimated")
    assert "of this machine's time" in price.details()
    assert estimate([(info("builtin"), 100)], DEFAULT) == Estimate()


def test_text_of_quotes_and_estimates():
    assert str(quote(info("fal-rmbg-2.0"), {}, DEFAULT)) == "$0.018 listed"
    assert str(quote(info("hf-rmbg-2.0"), {}, DEFAULT)) == "price unknown"
    assert quote(info("fal-rmbg-2.0"), {}, DEFAULT).details(date(2026, 11, 20)).startswith("$0.018 a picture (listed, seen 20")
    charge = estimate([(info("fal-rmbg-2.0"), 2), (info("hf-rmbg-2.0"), 1), (info("removebg"), 0)], DEFAULT)
    assert str(charge) == "about $0.036 and an unknown price at Hugging Face: RMBG 2.0"


@pytest.mark.parametrize(
    ("month", "today", "text"),
    [("2026-11", date(2026, 11, 1), "seen 2026-11"), ("2026-11", date(2027, 5, 1), "seen 2026-11"),
     ("2026-11", date(2027, 5, 2), "price of 2026-11"), ("2026-05", date(2026, 12, 31), "price of 2026-05"),
     ("2026-07", date(2027, 1, 1), "seen 2026-07"), ("", date(2026, 11, 1), "")],
)  # fmt: skip
def test_prices_age(month, today, text):
    assert read_in(month, today) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [(None, "–"), ("0", "$0"), ("0.000047", "$0.000047"), ("0.5", "$0.50"), ("18", "$18.00"), ("99.5", "$99.50"),
     ("1800", "$1,800"), ("1E+30", f"${10**30:,}")],
)  # fmt: skip
def test_dollars(usd, text):
    assert dollars(None if usd is None else Decimal(usd)) == text
