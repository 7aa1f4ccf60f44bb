"""The About tab: the engine that runs, and the published networks."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
from datetime import date
from decimal import Decimal

import pytest

from rmbg.billing.quote import OWN_PRICES
from rmbg.inference import builtin_runner, device, inventory
from rmbg.inference.catalog import DOWNLOADS
from rmbg.settings import Settings
from rmbg.ui.app import build
from rmbg.ui.languages import speaking
from rmbg.ui.tabs import about
from tests.onnx_files import color_network


@pytest.mark.parametrize("variables", [{}, {"RMBG_ENGINE": "torch"}, {"RMBG_DEVICE": "cpu"}, {"RMBG_ENGINE": "openvino"}])
def test_about_names_the_engine_that_runs(variables):
    settings = Settings.from_environ({**variables, "RMBG_PRECISION": "auto"})
    plan = builtin_runner.choose_plan(settings)
    line = about.machine(settings)
    assert f"{about.ENGINES[plan.engine]} {importlib.metadata.version(plan.engine)}" in line


def test_about_tells_the_engine_of_the_builtin_provider_apart(monkeypatch):
    """On a machine with a GPU, where the other networks do not run on OpenVINO."""
    monkeypatch.setattr(device, "choose_device", lambda requested: "cpu" if requested == "cpu" else "mps")
    line = about.machine(Settings.from_environ({}))
    assert "MPS" in line and "Engine: PyTorch" in line and "runs on the CPU with OpenVINO" in line
    assert "OpenVINO" in about.machine(Settings.from_environ({"RMBG_ENGINE": "openvino"})), "which selects the CPU"


def test_about_lists_the_networks(tmp_path):
    own = tmp_path / "rmbg-1.4.safetensors"
    own.write_bytes(bytes(2_000_000))
    settings = Settings(weights=tmp_path, data=tmp_path, environ={"HF_HOME": str(tmp_path)})
    inventory.record_seconds("rmbg-1.4", 1.26, settings)
    with speaking("de"):
        table = about.networks(settings)
    rows = [re.sub("<[^>]*>|\\s+", " ", row).split() for row in table.split("<tr>")[2:]]
    assert [row[row.index("MB") - 1] for row in rows] == [str(model.megabytes) for model in DOWNLOADS.values()]
    assert {"schnell,", "Ja", "1.3"} <= set(rows[0]) and "Nein" in rows[1] and "Ja" not in rows[1]
    assert "belegen 2 MB" in table
    broken = about.networks(Settings(weights=tmp_path / "missing"))
    assert "not set up here" in broken and "RMBG_WEIGHTS" not in broken


def test_about_lists_own_models(tmp_path):
    """Without the path of the file and without links, as they have no page."""
    (tmp_path / "mine.onnx").write_bytes(color_network())
    settings = Settings(models=tmp_path, data=tmp_path / "data", environ={"HF_HOME": str(tmp_path)})
    with speaking("de"):
        row = about.networks(settings).split("<tr>")[-1].partition("</tbody>")[0]
    assert "<code>model:mine</code>" in row and "eigenes Modell" in row and "1 MB" in row and "Ja" in row
    assert "href" not in row and str(tmp_path) not in row
    broken = about.networks(Settings(models=tmp_path / "missing", data=tmp_path))
    assert "not set up here" in broken and "RMBG_MODELS" not in broken


def test_networks_are_listed_anew_when_the_tab_is_opened():
    """Weights may be downloaded while the page is open."""
    config = build().config
    ids = {component["props"].get("elem_id"): component["id"] for component in config["components"]}
    (tab,) = (c["id"] for c in config["components"] if c["type"] == "tabitem" and c["props"].get("id") == "about")
    outputs = [ids["networks"], ids["prices"], ids["quality"]]
    assert [[tab, "select"]] in [event["targets"] for event in config["dependencies"] if event["outputs"] == outputs]


def test_about_lists_the_prices_of_services(tmp_path):
    entries = (("removebg", 2, "2026-05", "javascript:alert(1)"), ("fal-rmbg-2.0", "'0.001'", "2026-11", "https://a.example/p"))
    text = "".join(f"[{name!r}]\nusd = {usd}\nseen = {seen!r}\nsource = {note!r}\n" for name, usd, seen, note in entries)
    (tmp_path / OWN_PRICES).write_text(text)
    settings = Settings(data=tmp_path, hourly_usd=Decimal(36))
    with speaking("de"):
        table = about.prices(settings, date(2026, 12, 1))
    rows = {name: row for name, row in re.findall("<code>(.*?)</code>(.*?)</tr>", table, re.DOTALL)}
    ids = list(rows)
    assert ids[0] == "gigarouter-rmbg-1.4" and ids.index("removebg") < ids.index("hf-rmbg-2.0")
    cells = [cell.strip() for cell in re.findall("<td[^>]*>(.*?)</td>", rows["removebg"])]
    assert cells[:4] == ["$2.00", "$2,000", "$200,000", "$0.44"]
    assert cells[4:] == ["Listenpreis, Preis von 2026-05", "50 Vorschaubilder im Monat", "javascript:alert(1)"]
    assert ">Listenpreis, Stand 2026-11<" in rows["fal-rmbg-2.0"] and 'href="https://a.example/p"' in rows["fal-rmbg-2.0"]
    assert ">unbekannt<" in rows["hf-rmbg-2.0"] and "$0" not in rows["hf-rmbg-2.0"] and "22 % der Fotos" in table


def test_about_plots_the_last_benchmark_of_a_private_server(tmp_path, monkeypatch):
    monkeypatch.setenv("RMBG_DATA", str(tmp_path))
    assert about.quality() == ""
    for number, name in enumerate(("older", "newer")):
        path = tmp_path / "benchmarks" / name / "results.json"
        path.parent.mkdir(parents=True)
        rows = [("builtin", 1.1, 91.0), ("removebg", 5000, 95.5), ("hf-rmbg-2.0", None, 93.0)]
        leaderboard = [{"provider": id, "usd_100000": usd, "composite": score} for id, usd, score in rows]
        path.write_text(json.dumps({"data_set": name, "made": "2026-11-25 10:00 UTC", "leaderboard": leaderboard}))
        os.utime(path, (number, number))
    with speaking("de"):
        plot = about.quality()
    assert "2026-11-25 10:00 UTC mit dem Datensatz newer" in plot and 'aria-label="Qualität und Kosten"' in plot
    assert re.findall(r'<li value="(.)">(.*?)</li>', plot) == [
        ("1", "Built-in: 91.0, $1.1"),
        ("2", "remove.bg and compatible: 95.5, $5,000"),
    ]
    assert "weil ein Wert fehlt: Hugging Face: RMBG 2.0." in plot
    monkeypatch.setenv("RMBG_SHARED", "1")
    assert about.quality() == ""
    monkeypatch.delenv("RMBG_SHARED")
    path.write_text("{")
    assert about.quality() == ""
