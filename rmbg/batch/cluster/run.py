"""Run of a batch on a Ray cluster: Ray Data passes the numbers of the tasks to actors, which report to the driver.

Photos are read and written by the nodes, so that only numbers and outcomes pass through Ray, and the memory of a node is
bounded by its pipelines. A block of tasks whose node is lost is repeated by another actor; tasks that are recorded in the
manifest are left out. Paid calls are made by the driver, with the records that also protect a local batch.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmbg.batch.cluster.connection import check_nodes, connection
from rmbg.batch.cluster.mailbox import MAX_REQUESTS, Mailbox
from rmbg.batch.cluster.node import NodeJob, PhotoActor, without_photo
from rmbg.batch.outcome import HaltError, Outcome
from rmbg.batch.pipeline import PAID_JOBS
from rmbg.batch.plan import Plan, Task
from rmbg.batch.processes import supports
from rmbg.batch.run import Run
from rmbg.batch.worker import Worker
from rmbg.errors import RmbgError, reason

log = logging.getLogger(__name__)

#: Maximum number of tasks of a block, which one actor processes.
MAX_BLOCK = 64

#: Minimum number of blocks for each actor, so that all of them end at about the same time.
BLOCKS_PER_ACTOR = 16

#: Passes over the tasks without a new outcome after which the run ends.
MAX_IDLE_PASSES = 2


@dataclass(frozen=True)
class Pool:
    """Size of the actor pool, and the resources of each actor.

    Attributes
    ----------
    actors : int
        Maximum number of actors.
    threads : int
        Concurrent photos of an actor.
    cpus, gpus : int
    """

    actors: int
    threads: int
    cpus: int
    gpus: int = 0


def plan_pool(nodes: list[dict[str, float]], job: NodeJob, jobs: int | None) -> Pool:
    """Return the pool for the resources of the nodes.

    Actors of one batch are of the same kind, as results of a CPU and of a GPU differ in the last bits. An actor has one GPU,
    or the CPU cores of a node, since the engines use all cores; nodes with less than half of the cores of the largest node
    are not used. For a small network an actor has one core, see ``rmbg.batch.processes``.

    Parameters
    ----------
    nodes : list of dict
        Resources of each node by name.
    job : NodeJob
    jobs : int or None
        Maximum number of concurrent photos of all actors.
    """
    if job.recipe.paid:  # the driver makes the calls, one for each actor
        return Pool(min(jobs or PAID_JOBS, sum(int(node["CPU"]) for node in nodes) or 1), 1, 1)
    if supports(job.recipe):
        cores = sum(int(node["CPU"]) for node in nodes)
        return Pool(max(1, min(jobs or cores, cores)), 1, 1)
    with_gpu = [node for node in nodes if node.get("GPU", 0) >= 1]
    gpus = 1 if with_gpu and job.settings.device in ("auto", "cuda") else 0
    if gpus:
        cpus = max(1, min(int(node["CPU"] // node["GPU"]) for node in with_gpu))
        actors = sum(int(min(node["GPU"], node["CPU"] // cpus)) for node in with_gpu)
    else:
        largest = max(int(node["CPU"]) for node in nodes)
        cpus = max(1, min(int(node["CPU"]) for node in nodes if 2 * node["CPU"] >= largest))
        actors = sum(int(node["CPU"] // cpus) for node in nodes)
    threads = min(cpus, jobs) if jobs else cpus
    return Pool(max(1, min(actors, jobs // threads) if jobs else actors), threads, cpus, gpus)


class ClusterRun(Run):
    """One run on a cluster.

    Parameters
    ----------
    address : str
        As for `connection`.
    plan : Plan
    job : NodeJob
    jobs : int or None
        Number of concurrent photos; by default the number of CPU cores of the cluster, and `PAID_JOBS` at a paid service.
    """

    def __init__(self, address: str, plan: Plan, job: NodeJob, jobs: int | None) -> None:
        super().__init__(len(plan.tasks), paid=job.recipe.paid)
        self._address, self._plan, self._job, self._jobs = address, plan, job, jobs
        self._by_name = {task.entry.name: task for task in plan.tasks}
        self._open = set(self._by_name)
        self._fed, self._closed = threading.Event(), threading.Event()
        self._paying: set[Future[None]] = set()
        self._payers = ThreadPoolExecutor(jobs or PAID_JOBS, thread_name_prefix="batch-pay")

    def run(self, worker: Worker, update: Callable[[Outcome | None], None], cancelled: Callable[[], bool]) -> None:
        if not self._plan.tasks:
            return
        with connection(self._address) as ray:
            nodes = check_nodes(ray, self._job, self._plan)
            self.machines = len(nodes)
            here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=False
            )
            actor = ray.remote(Mailbox).options(num_cpus=0, max_concurrency=MAX_REQUESTS, scheduling_strategy=here)
            mailbox = actor.remote()
            threads = [self._start(self._serve, ray, mailbox, worker), self._start(self._feed, ray, mailbox, nodes)]
            try:
                self._follow(update, cancelled)
            finally:
                self._closed.set()
                self._payers.shutdown(wait=False, cancel_futures=True)
                threads[0].join(1)

    def _active(self) -> bool:
        # Paid calls may end after an error, as their results are kept for the next run.
        return any(not call.done() for call in self._paying) or not (self._fed.is_set() or self.error)

    def _feed(self, ray: Any, mailbox: Any, nodes: list[dict[str, float]]) -> None:
        """Pass the open tasks to the actors until all have an outcome."""
        idle = 0
        try:
            pool = plan_pool(nodes, self._job, self._jobs)
            while self._open and not self.stop.is_set() and idle < MAX_IDLE_PASSES:
                before = len(self._open)
                problem = ""
                try:
                    self._pass(ray, mailbox, pool)
                except Exception as error:  # Ray has no common base class of errors
                    log.info("a pass over the tasks of a batch failed", exc_info=True)
                    problem = f" ({reason(error)})"
                idle = idle + 1 if len(self._open) == before else 0
            if self._open and not self.stop.is_set():
                self._fail(HaltError(f"The Ray cluster returns no results{problem}."))
        except Exception as error:
            self._fail(error)
        finally:
            self._fed.set()

    def _pass(self, ray: Any, mailbox: Any, pool: Pool) -> None:
        """Pass the open tasks to the actors once; Ray Data restarts lost actors on other nodes and repeats their blocks."""
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        numbers = np.array([number for number, task in enumerate(self._plan.tasks) if task.entry.name in self._open])
        size = max(pool.threads, min(MAX_BLOCK, len(numbers) // (pool.actors * BLOCKS_PER_ACTOR)))
        blocks = [numbers[start : start + size] for start in range(0, len(numbers), size)]
        # One actor is enough to go on, so that the batch continues on the nodes that are left. All of them start at once, since
        # a pool that grows adds an actor only after the last one has started and all of them are busy.
        strategy = ray.data.ActorPoolStrategy(
            min_size=1,
            initial_size=min(pool.actors, len(blocks)),
            max_size=pool.actors,
            max_tasks_in_flight_per_actor=2,
        )
        dataset = ray.data.from_numpy(blocks).map_batches(
            PhotoActor,
            fn_constructor_args=(mailbox, self._job, pool.threads, pool.cpus),
            batch_size=None,
            compute=strategy,
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
        )
        for _ in dataset.iter_batches(batch_size=None, prefetch_batches=0):
            if self.stop.is_set():
                return

    def _serve(self, ray: Any, mailbox: Any, worker: Worker) -> None:
        """Answer the requests of the actors."""

        def reply(number: int, handle: Callable[..., Any], *arguments: Any) -> None:
            try:
                value = handle(*arguments)
            except RmbgError as error:
                value = error
            except Exception as error:
                log.exception("a request of a node failed")
                value = RmbgError(f"The driver failed with an unexpected {type(error).__name__}. See the log for details.")
            mailbox.answer.remote(number, value)

        def pay(name: str, photo: Any, digest: str) -> tuple[list[Any], bool]:
            try:
                received = ray.get(photo[0])
            except ray.exceptions.RayError:
                raise RmbgError("The node of this photo was lost.") from None  # before a call; another node repeats the photo
            cutout, called = worker.payments(self._by_name[name], received, digest)
            return [ray.put(without_photo(cutout))], called

        def record(outcome: Outcome, columns: dict[str, Any]) -> bool:
            return self._record(worker, outcome, columns)

        handlers: dict[str, Callable[..., Any]] = {"tasks": self._tasks, "record": record, "halt": self._halt}
        while not self._closed.is_set():
            try:
                requests = ray.get(mailbox.take.remote())
            except Exception as error:  # Ray has no common base class of errors
                if not self._closed.is_set():
                    self._fail(HaltError(f"The connection to the Ray cluster was lost: {reason(error)}."))
                return
            for number, (kind, *arguments) in requests:
                if kind == "pay":
                    self._paying = {call for call in self._paying if not call.done()}
                    self._paying.add(self._payers.submit(reply, number, pay, *arguments))
                else:
                    reply(number, handlers[kind], *arguments)

    def _tasks(self, numbers: list[int]) -> list[Task]:
        """Return the tasks with these numbers that have no outcome yet; none once the run is stopping."""
        if self.stop.is_set():
            return []
        tasks = [self._plan.tasks[number] for number in numbers]
        return [task for task in tasks if task.entry.name in self._open]

    def _record(self, worker: Worker, outcome: Outcome, columns: dict[str, Any]) -> bool:
        """Record an outcome; returns False if the actor must not start another photo."""
        if outcome.name in self._open:  # otherwise of a repeated block
            self._open.discard(outcome.name)
            try:
                worker.record(outcome, columns)
            except Exception as error:
                self._fail(error)
                return False
            self._count_failures(outcome)
            self._outcomes.put(outcome)
        return not self.stop.is_set()

    def _halt(self, message: str) -> None:
        self._fail(HaltError(message))
