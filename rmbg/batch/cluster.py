"""Batches on a Ray cluster: connection and checks, the work of a node, and the driver with manifest, keys and paid calls.

Ray cannot call a driver, so the requests pass through an actor on the driver's node, which the driver polls.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import itertools
import logging
import os
import re
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np

from rmbg.batch.manifest import HaltError, Outcome
from rmbg.batch.outputs import Output, StoreOutput, probe_name
from rmbg.batch.pipeline import PAID_JOBS, Pipeline, Run
from rmbg.batch.plan import Plan, Recipe, Task
from rmbg.batch.processes import supports
from rmbg.batch.sources import Entry, Source
from rmbg.batch.worker import Worker
from rmbg.cutout import Cutout
from rmbg.errors import CancelledError, NotReadyError, OptionError, RmbgError, printable, reason
from rmbg.images.photo import Photo
from rmbg.providers.base import never_cancelled
from rmbg.runtime.threads import use_one_core
from rmbg.settings import Settings
from rmbg.version import __version__

#: Maximum time in seconds that `Mailbox.take` waits for a request.
TAKE_SECONDS = 0.2

#: Number of concurrent requests; each thread of an actor has at most one.
MAX_REQUESTS = 100_000


class Mailbox:
    """Asynchronous actor with the requests that the driver has not answered."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._requests: asyncio.Queue[tuple[int, tuple[Any, ...]]] = asyncio.Queue()
        self._answers: dict[int, asyncio.Future[Any]] = {}

    async def ask(self, request: tuple[Any, ...]) -> Any:
        """Pass a request to the driver and return its answer."""
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._requests.put((number, request))
        return await self._answers[number]

    async def take(self) -> list[tuple[int, tuple[Any, ...]]]:
        """Return the waiting requests with their numbers, after at most `TAKE_SECONDS`."""
        try:
            found = [await asyncio.wait_for(self._requests.get(), TAKE_SECONDS)]
        except asyncio.TimeoutError:
            return []
        while not self._requests.empty():
            found.append(self._requests.get_nowait())
        return found

    async def answer(self, number: int, value: Any) -> None:
        """Answer a request."""
        future = self._answers.pop(number)
        if not future.done():
            future.set_result(value)


class Driver:
    """The driver, as seen by an actor on a node.

    Parameters
    ----------
    mailbox : handle of a Mailbox
    """

    def __init__(self, mailbox: Any) -> None:
        self._mailbox = mailbox

    def ask(self, kind: str, *arguments: Any) -> Any:
        """Return the answer to a request.

        Raises
        ------
        RmbgError
            The error that the driver has answered with.
        """
        import ray

        value = ray.get(self._mailbox.ask.remote((kind, *arguments)))
        if isinstance(value, BaseException):
            raise value
        return value


# Connection to a Ray cluster, and the checks before a batch starts.


log = logging.getLogger(__name__)

#: Supported versions of Ray: the first one, and the first one that is not supported.
FIRST_VERSION, END_VERSION = (2, 51), (3,)

#: Seconds to wait for a connection to the address of the cluster.
CONNECT_SECONDS = 5.0

#: Beginning of a line of Ray's native log: time and level.
LOG_LINE = re.compile(rb"\[\d{4}-\d\d-\d\d [\d:,.]+ [A-Z] ")

NO_NODES = "The Ray cluster has no node with a CPU. Start one with ray start."

#: Seconds to wait for the checks of all nodes.
CHECK_SECONDS = 120.0


def load_ray() -> Any:
    """Import Ray.

    Raises
    ------
    NotReadyError
        If it is missing or of an unsupported version.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # before the import; errors are raised, and not printed as well
    try:
        import ray
        import ray.data
    except ImportError:
        raise NotReadyError("Ray is not installed. Run pip install 'ray[data]'.") from None
    version = tuple(int(part) for part in re.findall(r"\d+", ray.__version__)[:2])
    if not FIRST_VERSION <= version < END_VERSION:
        first, end = (".".join(map(str, each)) for each in (FIRST_VERSION, END_VERSION))
        raise NotReadyError(f"Ray {ray.__version__} is not supported. Install version {first} or later, before {end}.")
    return ray


@contextlib.contextmanager
def connection(address: str) -> Iterator[Any]:
    """Connect to a running cluster and return the module ``ray``.

    Parameters
    ----------
    address : str
        ``auto``, for ``RAY_ADDRESS`` or the cluster of this machine, or HOST:PORT.

    Raises
    ------
    OptionError
        If the address is malformed.
    NotReadyError
        If there is no cluster, or its versions of Ray or Python differ.
    """
    target = _checked(address)
    ray = load_ray()
    if target != "auto":
        _check_port(target)
    with contextlib.redirect_stdout(_MessageLog()):
        try:
            with redirected_log():
                ray.init(target, log_to_driver=False, logging_level=logging.CRITICAL, namespace="rmbg")
        except ConnectionError:
            where = "on this machine" if target == "auto" else f"at {printable(target, 60)}"
            raise NotReadyError(f"No Ray cluster is running {where}. Start one with ray start --head.") from None
        except Exception as error:  # Ray has no common base class of errors
            raise NotReadyError(f"The Ray cluster cannot be used: {reason(error)}.") from None
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            yield ray
        finally:
            # Takes up to a second, more than a command has after a signal; the cluster also detects the end of the process.
            closing = threading.Thread(target=ray.shutdown, daemon=True)
            closing.start()
            if not isinstance(sys.exc_info()[1], CancelledError):
                closing.join()


def check_nodes(ray: Any, job: NodeJob, plan: Plan) -> list[dict[str, float]]:
    """Check that all nodes have this package, the input and the output; returns the resources of each node.

    Raises
    ------
    NotReadyError
        If a node lacks this version of the package.
    OptionError
        If a node cannot read the input or write results where the driver can.
    """
    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not nodes:
        raise NotReadyError(NO_NODES)
    entry = next((task.entry for task in plan.tasks if _readable(job, task.entry)), None)
    check = ray.remote(check_node)
    probes, pending = [], []
    for node in nodes:
        affinity = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        probes.append(probe_name())
        options = {"num_cpus": 0, "max_retries": 0, "scheduling_strategy": affinity}
        pending.append(check.options(**options).remote(job, entry, probes[-1]))
    lost = (ray.exceptions.TaskUnschedulableError, ray.exceptions.NodeDiedError, ray.exceptions.WorkerCrashedError)
    checked = []
    for node, probe, reference in zip(nodes, probes, pending, strict=True):
        name = printable(node["NodeManagerHostname"] or node["NodeManagerAddress"], 60)
        try:
            version, problem = ray.get(reference, timeout=CHECK_SECONDS)
        except lost:  # a node that has just been lost is listed as alive for some seconds
            continue
        except Exception as error:  # such as an ImportError in the worker process
            cause = printable(str(error).strip().rpartition("\n")[2], 100) or type(error).__name__
            raise NotReadyError(
                f"The node {name} cannot run this program ({cause}). Install rmbg-studio {__version__} on all nodes."
            ) from None
        if version != __version__:
            raise NotReadyError(f"The node {name} has version {version} of rmbg-studio. Install {__version__} on all nodes.")
        if problem:
            raise OptionError(f"The node {name} cannot use IN or OUT. {problem}")
        if not job.output.discard(probe):
            raise OptionError(
                f"The node {name} does not share OUT. Give a folder that all nodes mount, or a URL such as s3://bucket/results."
            )
        checked.append(node["Resources"])
    if not checked:
        raise NotReadyError(NO_NODES)
    return checked


@contextlib.contextmanager
def redirected_log() -> Iterator[None]:
    """Pass lines that Ray's native code writes to standard error to the log, such as the level of its own log.

    They are written to the file descriptor, before Ray opens its log files. Other lines are written to standard error.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            for line in file.read().splitlines(keepends=True):
                if LOG_LINE.match(line):
                    log.info(line.decode(errors="replace").strip())
                else:
                    os.write(2, line)


class _MessageLog(io.TextIOBase):
    """Log of the messages of nodes, which Ray prints to standard output among the results of a command."""

    def write(self, text: str) -> int:
        if text.strip():
            log.info(text.strip())
        return len(text)


def _checked(address: str) -> str:
    """Return the address of the cluster; ``auto`` is replaced by ``RAY_ADDRESS``."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "").strip() or "auto"
    if address.startswith("ray://"):
        raise OptionError("--ray does not support ray:// addresses. Run the command on a node of the cluster.")
    if address != "auto" and not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^\s:/\[\]]+):[0-9]{1,5}", address):
        raise OptionError(f"--ray is {printable(address, 60)!r}; it must be auto or an address such as 10.0.0.1:6379.")
    return address


def _check_port(address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError, UnicodeError):
        shown = printable(address, 60)
        raise NotReadyError(f"No Ray cluster is running at {shown}. Start one with ray start --head.") from None


def _readable(job: NodeJob, entry: Any) -> bool:
    if entry.problem:
        return False
    try:
        job.source.read(entry)
    except RmbgError:
        return False
    return True


# Work of one node of a cluster: the pipeline of a local batch, with the manifest and the paid calls at the driver.


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


# Run of a batch on a Ray cluster: Ray Data passes the numbers of the tasks to actors, which report to the driver.


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
