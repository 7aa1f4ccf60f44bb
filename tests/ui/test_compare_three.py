"""Comparison of the built-in provider, RMBG-1.4 and a paid loopback service on one example, in Chromium."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from rmbg.compare.votes import Votes
from rmbg.inference.catalog import MODELS, build
from rmbg.providers import PROVIDERS
from tests.conftest import launched, open_app, select_providers
from tests.networks.rule import rule_weights
from tests.pictures import examples
from tests.servers.runware import Runware
from tests.servers.service import KEY
from tests.ui.test_compare import WAIT, download, names, upload

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PROVIDER_IDS = ("builtin", "rmbg-1.4", "runware-rmbg-2.0")


@pytest.fixture(scope="module")
def service(own_data: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runware]:
    """Loopback Runware, and an environment with its URL and generated weights."""
    folder = tmp_path_factory.mktemp("weights")
    save_file(rule_weights(build(MODELS["rmbg-1.4"])[0].state_dict(), 1), folder / "rmbg-1.4.safetensors")
    patch = pytest.MonkeyPatch()
    # Half the input size takes a quarter of the time; the network is unchanged.
    patch.setattr(PROVIDERS["rmbg-1.4"], "model", replace(MODELS["rmbg-1.4"], size=512))
    with Runware() as server:
        patch.setenv("RMBG_WEIGHTS", str(folder))
        patch.setenv("RMBG_RUNWARE_URL", f"{server.url}/v1")
        patch.setenv("RMBG_RESULT_HOSTS", f"127.0.0.1:{server.port}")
        yield server
    patch.undo()


@pytest.fixture
def page(chromium: Any, service: Runware) -> Iterator[Any]:
    with launched() as address, chromium.visit() as page:
        open_app(page, address)
        page.click("button[role=tab]:has-text('Compare')")
        yield page


def test_blind_comparison_of_three_kinds_of_providers_and_its_downloads(page, service, tmp_path):
    upload(page, next(path for path in examples() if path.stem == "teapot"))
    page.click("#compare-keys button:has-text('Your keys')")
    page.fill("#compare-key-RUNWARE_API_KEY input", KEY)
    select_providers(page, "compare", *PROVIDER_IDS)
    page.click("#blind input")
    page.click("#compare-start")
    page.wait_for_selector("#compare-yes", timeout=WAIT)
    assert not service.jobs
    page.click("#compare-yes")
    page.wait_for_selector("#cast", timeout=2 * WAIT)
    assert names(page) == ["Photo", "A", "B", "C"]
    page.click("#vote label:has-text('Result A')")
    page.click("#cast")
    page.wait_for_selector("#figures table", timeout=WAIT)
    assert Votes(Path(os.environ["RMBG_DATA"]) / "votes.sqlite3").all()[-1][0]
    shown = [name.partition(": ")[2] or name for name in names(page)]  # A: Built-in
    assert sorted(shown) == sorted(["Photo", *(PROVIDERS[name].info.title for name in PROVIDER_IDS)])
    figures = page.inner_text("#figures")
    assert "$0.018 charged" in figures and "estimated" in figures
    assert len(service.jobs) == 1
    with zipfile.ZipFile(download(page, "#save-zip", tmp_path)) as archive:
        assert sorted(archive.namelist()) == sorted(f"teapot-{name}.png" for name in PROVIDER_IDS)
    for button, suffix in (("#save-sheet", "contact-sheet.png"), ("#save-csv", "table.csv")):
        assert download(page, button, tmp_path).name == f"teapot-{suffix}"
