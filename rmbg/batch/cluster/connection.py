"""Connection to a Ray cluster, and the checks before a batch starts."""

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
from collections.abc import Iterator
from typing import Any

from rmbg.batch.cluster.node import NodeJob, check_node
from rmbg.batch.outputs import probe_name
from rmbg.batch.plan import Plan
from rmbg.errors import CancelledError, NotReadyError, OptionError, RmbgError, printable, reason
from rmbg.version import __version__

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
