"""The owner's prices: where they count, and the errors of an invalid file."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from rmbg.billing import ledger
from rmbg.billing.cost import Cost
from rmbg.billing.quote import OWN_PRICES, estimate, price_of, quote
from rmbg.errors import OptionError
from rmbg.providers import PROVIDERS
from rmbg.providers.base import READY, describe
from rmbg.settings import Settings
from tests.remote import PROTOCOLS, cut, settings
from tests.sentences import sentence

CONTRACT = """
["runware-rmbg-2.0"]
usd = "0.012"
seen = "2026-05"
source = "contract"
["hf-rmbg-2.0"]
usd = 0.0125
seen = "2026-06"
[removebg]
usd = 1
seen = "2026-07"
["fal-rmbg-2.0"]
usd = 0.011
seen = "2026-08"
"""

RUNWARE, HF, REMOVEBG = (PROVIDERS[name].info for name in ("runware-rmbg-2.0", "hf-rmbg-2.0", "removebg"))


@pytest.fixture
def own(tmp_path) -> Settings:
    """Settings with `CONTRACT` in the data folder."""
    (tmp_path / OWN_PRICES).write_text(CONTRACT, encoding="utf-8")
    return Settings(data=tmp_path)


def test_own_prices_are_exact_and_listed(own):
    price = price_of(RUNWARE, own)
    assert price is not None and (price.source, price.counted) == ("contract", Decimal("0.012"))
    assert quote(RUNWARE, {}, own).details(date(2026, 12, 1)).startswith("$0.012 a picture (listed, price of 2026-05)")
    assert quote(HF, {}, own).cost == Cost(Decimal("0.0125"), "listed")
    assert quote(REMOVEBG, {"size": "preview"}, own).reserve == Decimal("0.25")
    assert estimate([(RUNWARE, 2), (HF, 2)], own).usd == Decimal("0.049")
    assert describe(HF, READY, own)["price"] == {"usd": 0.0125, "basis": "listed", "seen": "2026-06"}
    other = PROVIDERS["runware-rembg-1.4"].info
    assert quote(other, {}, own) == quote(other, {}, Settings())


def test_the_variable_of_the_credit_precedes_the_file(own):
    price = quote(REMOVEBG, {}, replace(own, removebg_credit_usd=Decimal("0.02")))
    assert (price.cost.usd, price.seen) == (Decimal("0.02"), "")


def test_price_of_a_cascade_is_as_old_as_its_oldest_price(own):
    with_keys = replace(own, environ={"RUNWARE_API_KEY": "k", "HF_TOKEN": "k"})
    options = {"steps": "builtin,hf-rmbg-2.0,runware-rmbg-2.0"}
    price = quote(PROVIDERS["cascade"].info, options, with_keys)
    assert (price.seen, price.reserve) == ("2026-05", Decimal("0.0245"))


def test_costs_and_reserved_amounts_are_those_of_the_owner(own, tmp_path):
    with PROTOCOLS["Runware"].server() as service:
        assert cut(service, tmp_path, "Runware", includeCost=False).cost == Cost(Decimal("0.012"), "listed")
        service.reports_cost = False
        cut(service, tmp_path / "other", "Runware", RMBG_PRICES=str(tmp_path / OWN_PRICES))
        assert ledger.of(settings(service, tmp_path / "other")).spent_today() == Decimal("0.012")
    with PROTOCOLS["fal queue"].server() as service:
        service.units = None
        assert cut(service, tmp_path, "fal queue").cost == Cost(Decimal("0.011"), "listed")
    with PROTOCOLS["remove.bg"].server() as service:
        assert cut(service, tmp_path, "remove.bg").cost == Cost(Decimal(1), "charged")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[runware]\nusd = 1\nseen = '2026-11'", "no price of 'runware'; choose from runware-r"),
        ("[removebg]\nusd = -1\nseen = '2026-11'", "usd of removebg is '-1'"),
        ("[removebg]\nusd = 1001\nseen = '2026-11'", "from 0 to 1000"),
        ("[removebg]\nusd = nan\nseen = '2026-11'", "'nan'"),
        ("[removebg]\nusd = '1e999'\nseen = '2026-11'", "'1e999'"),
        ("[removebg]\nusd = true\nseen = '2026-11'", "'True'"),
        ("[removebg]\nusd = ''\nseen = '2026-11'", "''"),
        ("[removebg]\nusd = [1]\nseen = '2026-11'", "'[1]'"),
        ("[removebg]\nusd = 1\nseen = '2026-13'", "a month such as"),
        ("[removebg]\nusd = 1\nseen = 2026-11-25", "'2026-11-25'; it must be a month"),
        ("[removebg]\nusd = 1\nseen = '2026-11'\nsource = 3", "it must be text"),
        ("[removebg]\nseen = '2026-11'", "must have usd and seen"),
        ("[removebg]\nusd = 1", "must have usd and seen"),
        ("[removebg]\nusd = 1\nseen = '2026-11'\nprice = 1", "and may have source"),
        ("removebg = 1", "must have usd and seen"),
        ("[removebg]\nusd = 1\nusd = 2", "not a TOML file"),
        ("[removebg]\n[removebg]\n", "not a TOML file"),
        ("[removebg\n", "not a TOML file"),
        ("a = " + "[" * 5000, "not a TOML file"),
        ("\udcff", "not a TOML file"),
    ],
)
def test_invalid_files_are_rejected(text, words, tmp_path):
    path = tmp_path / OWN_PRICES
    path.write_bytes(text.encode(errors="surrogateescape"))
    for given in (Settings(data=tmp_path), Settings(prices=path)):
        with pytest.raises(OptionError) as caught:
            quote(REMOVEBG, {}, given)
        assert words in sentence(str(caught.value).replace(str(path), "prices.toml"))


def test_missing_files(tmp_path):
    assert quote(REMOVEBG, {}, Settings(data=tmp_path)) == quote(REMOVEBG, {}, Settings())
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(OptionError, match="cannot be read"):
            quote(REMOVEBG, {}, Settings.from_environ({"RMBG_PRICES": f" {path} "}))


def test_the_file_is_read_once(own):
    assert quote(REMOVEBG, {}, own).cost.usd == 1
    Path(own.data / OWN_PRICES).unlink()
    assert quote(REMOVEBG, {}, own).cost.usd == 1
