"""Work of one node of a cluster: the pipeline of a local batch, with the manifest and the paid calls at the driver."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from rmbg.batch.cluster.mailbox import Driver
from rmbg.batch.entry import Entry, Source
from rmbg.batch.outcome import Outcome
from rmbg.batch.outputs import Output, StoreOutput
from rmbg.batch.pipeline import Pipeline
from rmbg.batch.plan import Plan, Task
from rmbg.batch.processes import supports
from rmbg.batch.recipe import Recipe
from rmbg.batch.worker import Worker
from rmbg.cutout import Cutout
from rmbg.errors import RmbgError, reason
from rmbg.images.photo import Photo
from rmbg.providers.base import never_cancelled
from rmbg.settings import Settings
from rmbg.threads import use_one_core
from rmbg.version import __version__


@dataclass(frozen=True)
class NodeJob:
    """Parts of a job that the nodes receive.

    Attributes
    ----------
    source : Source
    recipe : Recipe
    output : Output
    settings : Settings
        Pickled without the environment, hence without keys.
    folder : str
        Current folder of the driver, to which paths may be relative.
    """

    source: Source
    recipe: Recipe
    output: Output
    settings: Settings
    folder: str = field(default_factory=os.getcwd)

    def enter(self) -> None:
        """Change to the driver's current folder, if the node has it."""
        with contextlib.suppress(OSError):
            os.chdir(self.folder)


def node_settings(settings: Settings) -> Settings:
    """Return the driver's settings with the data folder, weights and environment of this node."""
    own = Settings.from_environ()
    return replace(settings, data=own.data, weights=own.weights or settings.weights, environ=own.environ)


def check_node(job: NodeJob, entry: Entry | None, probe: str) -> tuple[str, str]:
    """Check that this node can read the input and write results, as a task on that node.

    Parameters
    ----------
    job : NodeJob
    entry : Entry or None
        An input that the driver can read.
    probe : str
        Name of a file to write to the output.

    Returns
    -------
    str, str
        Version of this package, and the problem or an empty string.
    """
    job.enter()
    try:
        if entry is not None:
            job.source.read(entry)
        if isinstance(job.output, StoreOutput) or job.output.state.is_dir():
            job.output.write(probe, b"probe")
    except RmbgError as error:
        return __version__, str(error)
    return __version__, ""


class PhotoActor:
    """Actor that processes blocks of tasks; the network is loaded once.

    Parameters
    ----------
    mailbox : handle of a Mailbox
    job : NodeJob
    threads : int
        Number of concurrent photos.
    cores : int
        Number of CPU cores of the actor.
    """

    def __init__(self, mailbox: Any, job: NodeJob, threads: int, cores: int) -> None:
        job.enter()
        self._driver, self._job, self._threads, self._cores = Driver(mailbox), job, threads, cores
        self._settings = node_settings(job.settings)
        if supports(job.recipe):
            use_one_core()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Process the tasks with the numbers in the column ``data``, except those that are recorded already."""
        tasks = self._driver.ask("tasks", batch["data"].tolist())
        if tasks:
            try:
                self._process(tasks)
            except RmbgError as error:
                self._driver.ask("halt", str(error))
            except Exception as error:  # an unexpected error ends the run, as on one machine
                self._driver.ask("halt", f"A node failed: {reason(error)}.")
        return {"data": batch["data"]}

    def _process(self, tasks: list[Task]) -> None:
        pipeline = Pipeline(Plan(tasks=tasks), self._job.source, self._job.recipe, self._threads, self._cores)

        def record(outcome: Outcome, columns: Mapping[str, Any]) -> None:
            if not self._driver.ask("record", outcome, dict(columns)):
                pipeline.stop.set()

        worker = Worker(
            self._job.recipe,
            self._job.output,
            self._settings,
            self._pay,
            record,
            cancelled=pipeline.abort.is_set,
            stopping=pipeline.stop.is_set,
        )
        try:
            pipeline.run(worker, lambda outcome: None, never_cancelled)
        finally:
            pipeline.stop.set()

    def _pay(self, task: Task, photo: Photo, digest: str) -> tuple[Cutout, bool]:
        """Return the cutout of a paid call, which the driver makes."""
        import ray

        # As an object, the photo is copied to the driver once; a nested reference is not copied to the mailbox.
        reference, called = self._driver.ask("pay", task.entry.name, [ray.put(photo)], digest)
        return Cutout(photo, **ray.get(reference[0])), called


def without_photo(cutout: Cutout) -> dict[str, Any]:
    """Return the other fields of a cutout, for the node that has the photo."""
    return {field.name: getattr(cutout, field.name) for field in fields(cutout) if field.name != "photo"}
