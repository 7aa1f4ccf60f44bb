"""Batch jobs: opening of input, output and manifest, planning, execution, progress and summary."""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from rmbg.batch.manifest import HaltError, Item, Manifest, Outcome
from rmbg.batch.outputs import Output, open_output
from rmbg.batch.paid import PaidCalls, SpendingLimit
from rmbg.batch.pipeline import Pipeline, Run
from rmbg.batch.plan import MatteCache, Plan, Recipe, make_plan
from rmbg.batch.sources import Entry, FileSource, FolderSource, PathList, Source, label, open_source
from rmbg.batch.worker import NO_HOOKS, Hooks, Worker
from rmbg.billing.quote import Estimate, own_hardware
from rmbg.errors import InputError, NotReadyError, OptionError
from rmbg.providers import CASCADE, Provider, find
from rmbg.providers.base import READY, never_cancelled
from rmbg.runtime import files
from rmbg.runtime.messages import Message
from rmbg.settings import Settings


@dataclass
class Progress:
    """Counters of a batch.

    Attributes
    ----------
    total : int
        Number of inputs.
    kept : int
        Inputs with a result of an earlier run.
    done : int
        Results of this run.
    failed : int
        Inputs without a result.
    seconds : float
        Elapsed time of this run.
    usd : Decimal
        Cost of this run in dollars; calls of unknown cost count with the reserved amount.
    machines : int
        Number of machines, for the cost of own hardware.
    halted : str
        Reason if the batch ended before all inputs were tried, otherwise empty.
    """

    total: int
    kept: int
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    usd: Decimal = Decimal(0)
    machines: int = 1
    halted: str = ""

    @property
    def left(self) -> int:
        """Number of inputs that have not been tried."""
        return self.total - self.kept - self.done - self.failed

    @property
    def rate(self) -> float:
        """Photos per second."""
        return (self.done + self.failed) / self.seconds if self.seconds else 0.0

    def add(self, outcome: Outcome) -> None:
        """Count the outcome of one input."""
        self.kept += outcome.unchanged
        self.done += outcome.state == "done" and not outcome.unchanged
        self.failed += outcome.state != "done"


# Summary of a batch as JSON and CSV.


#: Maximum number of failures in the JSON object; the CSV file has all of them.
MAX_LISTED_FAILURES = 1000

COLUMNS = ("name", "output", "state", "seconds", "width", "height", "bytes", "message")


def summarize(plan: Plan, progress: Progress, recipe: Recipe, manifest: Manifest, settings: Settings) -> dict[str, Any]:
    """Return the figures of a batch as a JSON object.

    ``cost`` contains the calls of all runs for this output by basis; ``estimated`` is the cost of own hardware in this run.
    """
    items = manifest.items()
    failures = [_failure(items[name]) for name in plan.names if items[name].state not in ("done", "new")]
    cost = {basis: {"calls": count, "usd": float(usd)} for basis, (count, usd) in manifest.bill().items()}
    if not recipe.paid:
        usd = own_hardware(progress.seconds * progress.machines, settings.hourly_usd).usd
        cost["estimated"] = {"calls": progress.done, "usd": float(usd or Decimal(0))}
    return {
        "provider": recipe.provider.info.id,
        "format": recipe.form.id,
        **recipe.edge_facts,
        "photos": progress.total,
        "done": progress.done,
        "kept": progress.kept,
        "failed": progress.failed,
        "left": progress.left,
        "seconds": round(progress.seconds, 3),
        "photos_per_second": round(progress.rate, 3),
        "cost": cost,
        "usd": float(progress.usd),
        "stopped_because": progress.halted,
        "failures": failures[:MAX_LISTED_FAILURES],
    }


def write_summary(path: Path, figures: dict[str, Any], plan: Plan, manifest: Manifest) -> tuple[Path, Path]:
    """Write the summary and return the paths of the JSON and CSV files.

    Parameters
    ----------
    path : Path
        Path without suffix.
    figures : dict
        From `summarize`.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    as_json, as_csv = path.with_name(path.name + ".json"), path.with_name(path.name + ".csv")
    files.write(as_json, (json.dumps(figures, indent=2) + "\n").encode())
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    items = manifest.items()
    for name in plan.names:
        item = items[name]
        size = (item.width, item.height, item.size) if item.state == "done" else ("", "", "")
        writer.writerow([_cell(name), _cell(item.output), item.state, item.seconds, *size, _cell(item.message)])
    files.write(as_csv, out.getvalue().encode())
    return as_json, as_csv


def _failure(item: Item) -> dict[str, str]:
    return {"name": item.name, "state": item.state, "message": item.message}


def _cell(text: str) -> str:
    """Return text that spreadsheets do not interpret as a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


# Batch jobs: opening of input, output and manifest, planning, execution, summary.


@dataclass
class Job:
    """Open batch, which holds the lock of its manifest."""

    source: Source
    output: Output
    entries: list[Entry]
    manifest: Manifest
    settings: Settings
    mattes: MatteCache | None = None  # by default one beside the manifest, and one in the data folder

    def provider(self, name: str, options: Mapping[str, Any] | None = None) -> Provider:
        """Return the provider with an id and options.

        ``auto`` is the same provider in all runs for this output, and ``cascade`` has the same steps.

        Raises
        ------
        NotReadyError
            If the provider cannot run.
        """
        previous = self.manifest.fact("auto") if name == "auto" else None
        provider = find(previous or name, self.settings, options)
        if name == "auto":
            self.manifest.set_fact("auto", provider.info.id)
        steps = self.manifest.fact(CASCADE.info.id)
        if steps and provider.info.id == CASCADE.info.id:
            provider = CASCADE.fixed(CASCADE.parse_steps(steps))
        status = provider.status(self.settings)
        if not status.usable:
            raise NotReadyError(f"{provider.info.title} is not ready: {status.text}.")
        return provider

    def plan(self, recipe: Recipe, *, retry: bool = False) -> Plan:
        """Return the plan of a run; see `make_plan`."""
        plan = make_plan(self.entries, self.output, recipe, self.manifest, self._mattes(), retry=retry)
        status = recipe.provider.status(self.settings)
        if recipe.provider.composite and status != READY:
            plan.notes.append(f"{recipe.provider.info.title} is {status.text}.")
        return plan

    def expected_cost(self, plan: Plan, recipe: Recipe, max_cost: Decimal | None = None) -> Estimate:
        """Return the expected charge of a plan, at most the remainder of `max_cost`.

        Raises
        ------
        OptionError
            If there is a limit and the price of the provider is unknown.
        """
        if not plan.sends:
            return Estimate()
        price = recipe.quote(self.settings)
        title = recipe.provider.info.title
        if price.cost.usd is None and max_cost is not None:
            text = "{title} does not report its charges. Choose another provider, or set no limit."
            raise OptionError(Message(text, title=title))
        if price.cost.usd is None:
            return Estimate(unknown=(title,))
        if price.local:
            return Estimate()
        usd, most = (plan.sends * each for each in (price.cost.usd, price.most or price.cost.usd))
        if max_cost is not None:
            left = max(Decimal(0), max_cost - self.manifest.spent()[0])
            usd, most = min(usd, left), min(most, left)
        return Estimate(usd, most=most if most > usd else None, steps=(price.steps,) if price.steps else ())

    def run(
        self,
        plan: Plan,
        recipe: Recipe,
        *,
        jobs: int | None = None,
        retry: bool = False,
        max_cost: Decimal | None = None,
        report: Callable[[Progress, Outcome | None], None] = lambda progress, outcome: None,
        cancelled: Callable[[], bool] = never_cancelled,
        hooks: Hooks = NO_HOOKS,
        ray: str | None = None,
    ) -> Progress:
        """Process the tasks of a plan and complete the output.

        Parameters
        ----------
        plan : Plan
            From `plan`, for the same recipe.
        recipe : Recipe
        jobs : int, optional
            Number of concurrent photos; by default the number of CPU cores, and `PAID_JOBS` at a paid service.
        retry : bool
            Send photos again whose last attempt failed and may have been charged.
        max_cost : Decimal, optional
            Limit in dollars for all calls for this output, including earlier runs.
        report : callable (progress, outcome)
            Called in this thread after each photo, and regularly with an outcome of None.
        cancelled : callable () -> bool
            Stops the batch. Paid calls in progress may finish within `PAID_GRACE_SECONDS`.
        hooks : Hooks
            Not used on a cluster.
        ray : str, optional
            ``auto`` or HOST:PORT of a Ray cluster, which then processes the photos.

        Returns
        -------
        Progress
            Final counters. If the batch ended early, `halted` states the reason, and the next run continues.

        Raises
        ------
        CancelledError
            If the batch was stopped; existing results are kept.
        OutputError
            If the manifest or the output cannot be written.
        """
        self.manifest.set_fact("edges", json.dumps(recipe.edge_facts))
        if recipe.provider.info.id == CASCADE.info.id:
            self.manifest.set_fact(CASCADE.info.id, recipe.options["steps"])
        run = self._open_run(plan, recipe, jobs, ray, exclusive=hooks.device is not NO_HOOKS.device)
        spent, highest = self.manifest.spent()
        limit = SpendingLimit(max_cost, spent, recipe.quote(self.settings).reserve, highest)
        context: dict[str, Any] = {"cancelled": run.abort.is_set, "stopping": run.stop.is_set, "hooks": hooks}
        payments = PaidCalls(recipe, self.output, self.manifest, self._mattes(), limit, self.settings, retry=retry, **context)
        worker = Worker(recipe, self.output, self.settings, payments.cutout, **context)
        progress = Progress(len(plan.names), plan.kept, failed=plan.settled)
        started = time.monotonic()

        def update(outcome: Outcome | None) -> None:
            if outcome is not None:
                progress.add(outcome)
            progress.seconds = time.monotonic() - started
            progress.usd = limit.spent - spent
            progress.machines = run.machines
            report(progress, outcome)

        try:
            run.run(worker, update, cancelled)
        except HaltError as error:
            progress.halted = str(error)
        update(None)
        self.output.finish()
        return progress

    def summarize(self, plan: Plan, progress: Progress, recipe: Recipe) -> tuple[dict[str, Any], Path, Path]:
        """Write the summary and return its figures and the paths of the JSON and CSV files."""
        figures = summarize(plan, progress, recipe, self.manifest, self.settings)
        return (figures, *write_summary(self.output.summary, figures, plan, self.manifest))

    def _open_run(self, plan: Plan, recipe: Recipe, jobs: int | None, ray: str | None, *, exclusive: bool) -> Run:
        """Return a run on this machine, or on a cluster if `ray` is its address."""
        if ray is None:
            return Pipeline(plan, self.manifest, self.source, recipe, jobs, exclusive=exclusive)
        from rmbg.batch.cluster import ClusterRun, NodeJob

        return ClusterRun(ray, plan, self.manifest, NodeJob(self.source, recipe, self.output, self.settings), jobs)

    def _mattes(self) -> MatteCache:
        return self.mattes or MatteCache([self.output.state / "mattes", self.settings.data / "batch-mattes"])


@contextmanager
def open_job(source: str, output: str, settings: Settings, *, hosts: tuple[str, ...] = ()) -> Iterator[Job]:
    """Open a batch and lock its manifest.

    Parameters
    ----------
    source, output : str
        Arguments IN and OUT of the command.
    settings : Settings
    hosts : tuple of str
        Loopback hosts that the URLs of a list may contain.

    Raises
    ------
    RmbgError
        If input or output cannot be used. No file is created if the input is invalid.
    """
    target = open_output(output, settings)
    found = open_source(source, settings, exclude=target.root, hosts=hosts)
    _check_names(source, output)
    if isinstance(found, FolderSource):
        _check_folder(found.root, target)
    entries = found.entries()
    if not entries:
        raise InputError("There is no picture in the input. Give files in a format such as JPEG, PNG, WebP, AVIF or TIFF.")
    if isinstance(found, (FileSource, PathList)):
        _check_files(entries, target)
    with Manifest(target.state / "manifest.sqlite3") as manifest:
        target.prepare()
        yield Job(found, target, entries, manifest, settings)


def _check_names(source: str, output: str) -> None:
    """Raise OptionError if input and output are the same file or overlap in an object store."""
    given, target = (f"{name.rstrip('/')}/" if "://" in name else os.path.realpath(name) for name in (source, output))
    if "://" in output and (given.startswith(target) or target.startswith(given)):
        raise OptionError("IN and OUT overlap. Give another URL for the results.")
    if given == target and not Path(source).is_dir():
        raise OptionError("IN and OUT are the same file. Give another name for the results.")


def _check_folder(root: Path, output: Output) -> None:
    """Raise OptionError if the input folder is the output folder or inside it."""
    if output.root is not None and _below(root, output.root):
        raise OptionError(f"The input folder {label(root)} is OUT or inside OUT. Give another folder for the results.")


def _check_files(entries: list[Entry], output: Output) -> None:
    """Raise OptionError if an input file is inside the output folder."""
    for entry in entries:
        path = Path(entry.locator)
        if output.root is not None and entry.locator and path.is_file() and _below(path, output.root):
            raise OptionError(f"The photo {label(path)} is inside OUT. Give another folder for the results.")


def _below(path: Path, root: Path) -> bool:
    return path.resolve().is_relative_to(root.resolve())
