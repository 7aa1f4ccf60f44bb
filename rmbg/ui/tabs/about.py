"""The About tab: providers with license and price, published networks, prices, privacy, this machine, versions."""

from __future__ import annotations

import importlib.metadata
import platform
from datetime import date

import gradio as gr

from rmbg.benchmark.plot import scatter
from rmbg.benchmark.report import newest_results, provider_title
from rmbg.billing.cost import dollars
from rmbg.billing.quote import monthly, projection, quote, read_in
from rmbg.errors import NotReadyError, RmbgError
from rmbg.inference import inventory
from rmbg.inference.device import choose_engine, choose_engine_and_device
from rmbg.inference.engines import import_torch
from rmbg.providers import PROVIDERS
from rmbg.providers.cascade import THRESHOLD, doubtful_share
from rmbg.providers.prices import ServicePrice, service_prices
from rmbg.runtime.messages import Message, megabytes
from rmbg.runtime.threads import cpu_count
from rmbg.settings import Settings
from rmbg.ui.components import providers
from rmbg.ui.languages import t, visitor_text
from rmbg.ui.runs import INSTANT
from rmbg.ui.templates import render
from rmbg.version import __version__

#: Names of the engines.
ENGINES = {"openvino": "OpenVINO", "torch": "PyTorch"}


def build(tab: gr.Tab, settings: Settings) -> None:
    """Create the components of the tab."""
    gr.Markdown(
        f"## {t('Providers')}\n"
        + t(
            "One provider computes the cutout. All further steps, from background color to file format, run on {place} and use "
            "the same cutout at no further cost.",
            place=providers.place(settings),
        )
    )
    gr.HTML(providers.cards(settings), elem_classes="bare", elem_id="providers")
    gr.Markdown(f"## {t('Networks')}")
    table = gr.HTML(networks(settings), elem_classes="bare", elem_id="networks")
    gr.Markdown(f"## {t('Prices')}")
    costs = gr.HTML(prices(settings), elem_classes="bare", elem_id="prices")
    plot = gr.HTML("", elem_classes="bare", elem_id="quality")
    # Weights may have been downloaded, prices may have become old, and a benchmark may have been run.
    tab.select(lambda: (networks(settings), prices(settings), quality()), None, [table, costs, plot], **INSTANT)
    gr.Markdown(
        render(
            "about.md",
            hourly_usd=settings.hourly_usd,
            place=providers.place(settings),
            minutes=f"{settings.visit_seconds / 60:g}",
            machine=machine(settings),
            version=__version__,
            python=platform.python_version(),
            gradio=gr.__version__,
        )
    )


def networks(settings: Settings) -> str:
    """Return the table of the published networks and own models: use, size, license, and seconds on this machine."""
    try:
        found = inventory.networks(settings)
    except RmbgError as error:
        return render("note.html", text=visitor_text(error))
    size = megabytes(sum(network.size for network in found))
    return render("networks.html", networks=found, size=size, place=providers.place(settings))


def prices(settings: Settings, today: date | None = None) -> str:
    """Return the table of the prices of services, see `rmbg.cli.prices`; `today` is the current date by default."""
    builtin = quote(PROVIDERS["builtin"].info, {}, settings)
    return render(
        "prices.html",
        rows=[(price, _cells(price, today), _host(price.source)) for price in service_prices(settings)],
        percent=f"{100 * doubtful_share(THRESHOLD):.0f}",
        builtin=builtin,
        monthly=projection(builtin.cost),
    )


def quality() -> str:
    """Return the plot of the last benchmark in the data folder; empty if there is none, and on a shared server."""
    settings = Settings.from_environ()
    results = None if settings.shared else newest_results(settings.data / "benchmarks")
    if results is None:
        return ""
    values = [(provider_title(row["provider"]), row["usd_100000"], row["composite"]) for row in results["leaderboard"]]
    plot = scatter(values, t("Quality against cost"), t("US dollars for 100,000 pictures"), t("composite"), "$")
    note = t(
        "Measured on {made} with the data set {name}. Composite: 0 to 100, higher is better. The Benchmark tab measures other "
        "providers and pictures.",
        made=results["made"],
        name=results["data_set"],
    )
    return render("plot.html", plot=plot, note=note) if plot.points else ""


def _cells(price: ServicePrice, today: date | None) -> list[str]:
    """Amounts of a service, the basis of its price with the month, and its free tier."""
    cost = price.cost
    basis: str = Message(cost.basis)
    if price.seen:
        basis = Message("{basis}, {month}", basis=basis, month=read_in(price.seen, today))
    return [
        *map(dollars, (cost.usd, monthly(cost, 1000), monthly(cost), price.after_builtin.usd)),
        basis,
        Message(price.free) if price.free else "–",
    ]


def _host(source: str) -> str:
    """Host of a source that is a web page; empty for another text."""
    scheme, _, rest = source.partition("://")
    return rest.partition("/")[0] if scheme in ("https", "http") else ""


def machine(settings: Settings) -> str:
    """Return device and engine of local networks on this machine in one line; torch is imported for a GPU only.

    The built-in provider runs on the CPU in any case.
    """
    try:
        engine, name = choose_engine_and_device(settings)
        builtin = choose_engine(settings.engine, "cpu")
    except NotReadyError as error:
        return str(error)
    if name.startswith("cuda"):
        device = import_torch().cuda.get_device_name(name)
    else:
        cpu = t("CPU ({architecture}, {threads} threads)", architecture=platform.machine(), threads=cpu_count())
        device = "Apple GPU (MPS)" if name == "mps" else cpu
    line = t("Device: {device}. Engine: {engine} {version}.", device=device, **_named(engine))
    if name == "cpu":
        return line
    return line + " " + t("The built-in provider runs on the CPU with {engine} {version}.", **_named(builtin))


def _named(engine: str) -> dict[str, str]:
    return {"engine": ENGINES[engine], "version": importlib.metadata.version(engine)}
