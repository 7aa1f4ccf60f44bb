"""Batches on a Ray cluster: connection and checks, the work of a node, and the driver with manifest, keys and paid calls."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any

from rmbg.batch.manifest import HaltError, Manifest, Outcome
from rmbg.batch.outputs import Output, StoreOutput, probe_name
from rmbg.batch.pipeline import PAID_JOBS, Admission, Run, read_input
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
    except ImportError:
        raise NotReadyError("Ray is not installed. Run pip install ray.") from None
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
        logging.getLogger("ray").setLevel(logging.CRITICAL)
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
    inputs = ((task.entry, read_input(job.source, task.entry)) for task in plan.tasks)
    entry = next((entry for entry, data in inputs if isinstance(data, bytes)), None)
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
                f"The node {name} cannot run this program ({cause}). Install rmbg-studio {__version__}, and the plug-in of the "
                "batch if it has one, on all nodes."
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


# Work of one node of a cluster, with the manifest and the paid calls at the driver.


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


class PaymentRequiredError(CancelledError):
    """A photo, without a result yet, for which the driver makes a paid call."""

    def __init__(self, photo: Photo, digest: str) -> None:
        super().__init__(photo, digest)
        self.photo, self.digest = photo, digest


@dataclass(frozen=True)
class Payment:
    """Result of a paid call.

    Attributes
    ----------
    digest : str
        Of the photo.
    result : dict or RmbgError
        Fields of the cutout except its photo, which the node has, or the error of the call.
    called : bool
        False if the cutout comes from the cache.
    """

    digest: str
    result: dict[str, Any] | RmbgError
    called: bool = True


class PhotoActor:
    """Actor that processes photos in several threads; the network is loaded once.

    Parameters
    ----------
    job : NodeJob
    threads : int
        Number of concurrent photos; others are read ahead.
    cores : int
        Number of CPU cores of the actor.
    """

    def __init__(self, job: NodeJob, threads: int, cores: int) -> None:
        job.enter()
        own = Settings.from_environ()  # data folder, weights and environment are those of the node
        weights = own.weights or job.settings.weights
        self._settings = replace(job.settings, data=own.data, weights=weights, environ=own.environ)
        self._job = job
        self._admission = Admission(threads, one_core=threads >= cores)
        if supports(job.recipe):
            use_one_core()

    def ready(self) -> None:
        """Return once the actor has started."""

    def process(self, task: Task, payment: Payment | None = None) -> tuple[Outcome, dict[str, Any]] | RmbgError:
        """Process a task and return its outcome with the changed columns of its item.

        PaymentRequiredError is returned for a photo that has to be paid for; the second attempt has the payment. HaltError is
        returned if no further photo can be processed.
        """

        def pay(task: Task, photo: Photo, digest: str) -> tuple[Cutout, bool]:
            if payment is None or payment.digest != digest:
                raise PaymentRequiredError(photo, digest)
            if isinstance(payment.result, RmbgError):
                raise payment.result
            return Cutout(photo, **payment.result), payment.called

        worker = Worker(
            self._job.recipe,
            self._job.output,
            self._settings,
            pay,
            cancelled=never_cancelled,
            stopping=never_cancelled,
        )
        data = read_input(self._job.source, task.entry)
        try:
            with self._admission.hold(data):
                return worker.process(task, data)
        except RmbgError as error:
            return error


# Run of a batch on a Ray cluster: threads of the driver pass tasks to actors, record their outcomes and make their paid calls.


#: Number of photos that an actor reads while it processes others.
READ_AHEAD = 2

#: Seconds between two attempts to use an actor that Ray restarts on another node.
RESTART_INTERVAL = 1.0


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
    manifest : Manifest
    job : NodeJob
    jobs : int or None
        Number of concurrent photos; by default the number of CPU cores of the cluster, and `PAID_JOBS` at a paid service.
    """

    def __init__(self, address: str, plan: Plan, manifest: Manifest, job: NodeJob, jobs: int | None) -> None:
        super().__init__(plan.tasks, manifest, paid=job.recipe.paid)
        self._address, self._plan, self._job, self._jobs = address, plan, job, jobs
        self._serving = 0  # threads with an actor that has not failed to start

    def run(self, worker: Worker, update: Callable[[Outcome | None], None], cancelled: Callable[[], bool]) -> None:
        if not self._plan.tasks:
            return
        with connection(self._address) as ray:
            nodes = check_nodes(ray, self._job, self._plan)
            self.machines = len(nodes)
            pool = plan_pool(nodes, self._job, self._jobs)
            calls = pool.threads if self._job.recipe.paid else pool.threads + READ_AHEAD
            options = {"num_cpus": pool.cpus, "num_gpus": pool.gpus, "max_restarts": -1, "max_concurrency": calls}
            create = ray.remote(PhotoActor).options(**options).remote
            actors = [create(self._job, pool.threads, pool.cpus) for _ in range(min(pool.actors, len(self._plan.tasks)))]
            self._serving = len(actors) * calls
            threads = [self._start(self._serve, ray, actor, worker) for actor in actors for _ in range(calls)]
            try:
                self._follow(update, cancelled)
            finally:
                self.stop.set()
            for thread in threads:
                thread.join()

    def _serve(self, ray: Any, actor: Any, worker: Worker) -> None:
        """Pass tasks to an actor, one at a time; Ray restarts a lost actor once a node has the resources."""
        while self._tasks.unfinished_tasks and not self.stop.is_set():
            try:
                ray.get(actor.ready.remote(), timeout=RESTART_INTERVAL)
                self._process_tasks(lambda task: self._process(ray, actor, worker, task))
            except ray.exceptions.RayTaskError as error:  # an unexpected error ends the run, as on one machine
                self._fail(HaltError(f"A node failed: {reason(error.cause)}."))
            except ray.exceptions.ActorDiedError as error:  # an actor that cannot be started
                with self._lock:
                    self._serving -= 1
                if not self._serving:
                    self._fail(HaltError(f"The Ray cluster returns no results ({reason(error)})."))
                return
            except ray.exceptions.RayError:
                self.stop.wait(RESTART_INTERVAL)
            except Exception as error:
                self._fail(error)

    def _process(self, ray: Any, actor: Any, worker: Worker, task: Task) -> Outcome:
        reply = ray.get(actor.process.remote(task))
        while isinstance(reply, PaymentRequiredError):
            reply = ray.get(actor.process.remote(task, self._pay(worker, task, reply)))
        if isinstance(reply, RmbgError):
            raise reply
        return self._record(*reply)

    def _pay(self, worker: Worker, task: Task, required: PaymentRequiredError) -> Payment:
        try:
            cutout, called = worker.payments(task, required.photo, required.digest)
        except (CancelledError, HaltError):
            raise
        except RmbgError as error:
            return Payment(required.digest, error)
        result = {field.name: getattr(cutout, field.name) for field in fields(cutout) if field.name != "photo"}
        return Payment(required.digest, result, called)
