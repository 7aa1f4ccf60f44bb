"""Batches on a Ray cluster of three nodes: killed nodes and drivers, paid calls, and unusable clusters."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from rmbg.batch.cluster import NodeJob, Pool, plan_pool, redirected_log
from rmbg.batch.plan import Recipe
from rmbg.batch.sources import open_source
from rmbg.images.encode import FORMATS
from rmbg.providers import PROVIDERS
from rmbg.settings import Settings
from tests.batch.test_paid import SlowRunware
from tests.batch.test_resume import kill, lines, rows
from tests.disc import Disc, results, save_photo, save_photos
from tests.processes import python
from tests.remote import environment
from tests.sentences import sentence

ROOT = Path(__file__).resolve().parents[2]

#: Folder with the module of the example plug-in.
PLUGIN = ROOT / "tests/plugin_example"

#: Number of photos and seconds of each of them, by default and with --long.
COUNTS = [(20, 0.3), pytest.param(1000, 0.05, marks=pytest.mark.long)]

#: Seconds without a further result after which a batch counts as stopped, on a busy machine.
PATIENCE = 120.0

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="clusters of several nodes need Linux")]

NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster():
    """A cluster on this machine; its nodes have no keys."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{PLUGIN}")
        from ray.cluster_utils import Cluster

        # A killed node is noticed after five checks, a slow one is not.
        checks = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 200, "health_check_timeout_ms": 10000}
        found = Cluster(initialize_head=True, head_node_args={**NODE, "_system_config": checks})
        try:
            yield found
        finally:
            found.shutdown()


@pytest.fixture
def nodes(cluster):
    """Two nodes beside the head of the cluster."""
    while len(cluster.worker_nodes) < 2:
        cluster.add_node(**NODE)
    return list(cluster.worker_nodes)


def start(cluster, *arguments: object, program: tuple[object, ...] = ("-m", "rmbg"), **environ: str) -> subprocess.Popen:
    """Start a batch on the cluster in a child process."""
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = python(*program, "batch", *arguments, "--ray", cluster.address)
    return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environ}, start_new_session=True, **pipes)


def wait_for(driver: subprocess.Popen, target: int, count: Callable[[], int]) -> None:
    """Wait until `count` returns `target` or more; fails if the driver ends, or the count has not grown for `PATIENCE`."""
    found, since = count(), time.monotonic()
    while found < target:
        ended = driver.poll() is not None
        time.sleep(0.1)
        before, found = found, count()
        since = time.monotonic() if found > before else since
        assert found >= target or not ended, driver.communicate()[1].decode()
        assert found >= target or time.monotonic() - since < PATIENCE, f"{found} of {target}"


def messages(err: bytes) -> list[str]:
    """Return the lines of standard error without the progress that a slow machine prints."""
    return [line for line in err.decode().splitlines() if not re.match(r"rmbg: [\d,]+ of [\d,]+, ", line)]


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in results(folder)}


@pytest.mark.parametrize(("count", "seconds"), COUNTS)
def test_killed_node_and_killed_driver_repeat_no_result(cluster, nodes, batch, tmp_path, count, seconds):
    photos, out, log = save_photos(tmp_path / "in", count), tmp_path / "out", tmp_path / "log"
    (photos / "damaged.jpg").write_bytes(b"\xff\xd8\xff")
    arguments = (photos, out, "--provider", "disc")
    driver = start(cluster, *arguments, program=("-m", "tests.disc", log, seconds))
    wait_for(driver, count // 4, lambda: len(results(out)))
    cluster.remove_node(nodes[0], allow_graceful=False)
    wait_for(driver, count // 2, lambda: len(results(out)))
    kill(driver)
    driver = start(cluster, *arguments, program=("-m", "tests.disc", log, 0))
    printed, err = driver.communicate(timeout=1200)
    assert driver.returncode == 1 and printed == b"", err.decode()
    failure, summary = messages(err)
    assert failure.startswith("rmbg: damaged.jpg: ") and f"1 of {count + 1:,} photos have no result." in summary
    found = {name: (state, times) for name, state, times in rows(out)}
    assert found.pop("damaged.jpg") == ("failed", 0)
    assert set(found.values()) == {("done", 1)} and len(found) == count
    # The kills repeat at most the current photo of each of the three actors.
    assert set(lines(log)) == {f"{number:04d}" for number in range(count)} and len(lines(log)) <= count + 1 + 3
    assert not list(out.rglob("*.part"))
    assert batch(photos, tmp_path / "local")[0] == 1
    assert contents(out) == contents(tmp_path / "local")


@pytest.mark.parametrize(("count", "seconds"), COUNTS)
def test_killed_node_is_not_charged_twice(cluster, nodes, rmbg, monkeypatch, tmp_path, count, seconds):
    photos, out = save_photos(tmp_path / "in", count), tmp_path / "out"
    arguments = ("--provider", "runware-rembg-1.4", "--yes")
    with SlowRunware() as service:
        keys = environment(service, tmp_path / "data", RMBG_REMOTE_SECONDS="100")
        service.seconds = seconds
        driver = start(cluster, photos, out, *arguments, **keys)
        wait_for(driver, count // 4, lambda: len(service.jobs))
        cluster.remove_node(nodes[1], allow_graceful=False)
        err = driver.communicate(timeout=1200)[1].decode()
        assert driver.returncode == 0, err
        assert len(service.jobs) == count and {(state, times) for _, state, times in rows(out)} == {("done", 1)}
        service.seconds = 0.0
        for name, value in keys.items():
            monkeypatch.setenv(name, value)
        assert rmbg("batch", photos, out, *arguments)[0] == 0 and len(service.jobs) == count
        assert rmbg("batch", photos, tmp_path / "local", *arguments)[0] == 0
    assert contents(out) == contents(tmp_path / "local")


def test_signal_stops_a_batch(cluster, tmp_path):
    photos, out = save_photos(tmp_path / "in", 200), tmp_path / "out"
    driver = start(cluster, photos, out, "--provider", "disc", program=("-m", "tests.disc", tmp_path / "log", 0.2))
    wait_for(driver, 3, lambda: len(results(out)))
    os.kill(driver.pid, signal.SIGINT)
    (last,) = messages(driver.communicate(timeout=300)[1])
    assert driver.returncode == 128 + signal.SIGINT
    text = sentence(last)
    assert text.startswith("rmbg: Stopped. ") and text.endswith("Run the same command again to continue.")
    assert 3 <= len(results(out)) < 200 and not list(out.rglob("*.part"))


def test_folders_that_the_nodes_do_not_have(cluster, batch, tmp_path):
    """File systems in the memory of one process are the same as folders of one machine."""
    photo = save_photo(tmp_path / "in/photo.png")
    fsspec.filesystem("memory").pipe_file("/only-here/photo.png", photo.read_bytes())
    status, _, err = batch(tmp_path / "in", "memory://only-here-too", "--ray", cluster.address)
    assert status == 2 and "does not share OUT. Give a folder that all nodes mount" in sentence(err.strip())
    status, _, err = batch("memory://only-here", tmp_path / "out", "--ray", cluster.address)
    assert status == 2 and "cannot use IN or OUT." in sentence(err.strip()) and results(tmp_path / "out") == []


def test_plugin_runs_on_the_nodes(cluster, tmp_path):
    photos, metadata = save_photos(tmp_path / "in", 3), tmp_path / "site/rmbg_chroma_key-0.1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: rmbg-chroma-key\nVersion: 0.1.0\n")
    (metadata / "entry_points.txt").write_text("[rmbg.providers]\nchroma-key = rmbg_chroma_key:CHROMA_KEY\n")
    code = f"import sys; sys.path += [{str(metadata.parent)!r}, {str(PLUGIN)!r}]; from rmbg.__main__ import entry; entry()"
    arguments = (photos, tmp_path / "out", "--provider", "chroma-key")
    driver = start(cluster, *arguments, program=("-c", code), RMBG_PLUGINS="chroma-key")
    _, err = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0 and len(results(tmp_path / "out")) == 3, err.decode()


def test_lines_of_the_native_log_are_not_printed(capfd):
    with redirected_log():
        os.write(2, b"[2026-11-23 00:00:00,123 I 12 34] logging.cc:303: Set ray log level to 4\nrmbg: Stopped.\n")
    os.write(2, b"[2026-11-23 00:00:01,123 I 12 34] later\n")
    assert capfd.readouterr().err == "rmbg: Stopped.\n[2026-11-23 00:00:01,123 I 12 34] later\n"


@pytest.mark.parametrize(
    ("address", "expected", "message"),
    [
        ("127.0.0.1:1", 1, "No Ray cluster is running at 127.0.0.1:1."),
        ("auto", 1, "No Ray cluster is running at 127.0.0.1:2."),
        ("head node", 2, "it must be auto or an address such as"),
        ("ray://10.0.0.1:10001", 2, "does not support ray:// addresses."),
    ],
)
def test_address_without_a_cluster(batch, monkeypatch, tmp_path, address, expected, message):
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:2")
    save_photo(tmp_path / "in/photo.png")
    status, _, err = batch(tmp_path / "in", tmp_path / "out", "--ray", address)
    assert status == expected and message in sentence(err.strip().replace(str(tmp_path), ""))


@pytest.mark.parametrize(
    ("module", "message"),
    [(None, "Ray is not installed. Run pip install"), ("2.9.3", "Ray 2.9.3 is not supported. Install version 2.51 or later")],
)
def test_missing_and_unsupported_ray(batch, monkeypatch, tmp_path, module, message):
    monkeypatch.setitem(sys.modules, "ray", module and types.SimpleNamespace(__version__=module))
    save_photo(tmp_path / "in/photo.png")
    status, _, err = batch(tmp_path / "in", tmp_path / "out", "--ray", "127.0.0.1:1")
    assert status == 1 and message in sentence(err.strip())


@pytest.mark.parametrize(
    ("nodes", "jobs", "provider", "pool"),
    [
        ([{"CPU": 4.0}] * 3, None, "disc", Pool(3, 4, 4)),
        ([{"CPU": 4.0}] * 3, 2, "disc", Pool(1, 2, 4)),
        ([{"CPU": 1.0}, {"CPU": 64.0}, {"CPU": 32.0}], None, "disc", Pool(3, 32, 32)),
        ([{"CPU": 8.0}, {"CPU": 16.0, "GPU": 2.0}], None, "disc", Pool(2, 8, 8, 1)),
        ([{"CPU": 4.0}] * 3, None, "builtin", Pool(12, 1, 1)),
        ([{"CPU": 4.0, "GPU": 1.0}] * 3, 5, "builtin", Pool(5, 1, 1)),
        ([{"CPU": 4.0}] * 3, None, "runware-rembg-1.4", Pool(4, 1, 1)),
        ([{"CPU": 4.0}] * 3, 10, "runware-rembg-1.4", Pool(10, 1, 1)),
    ],
)
def test_actors_fit_the_nodes(tmp_path, nodes, jobs, provider, pool):
    recipe = Recipe({**PROVIDERS, "disc": Disc()}[provider], {}, FORMATS["png"])
    settings = Settings()
    assert plan_pool(nodes, NodeJob(open_source(str(tmp_path), settings), recipe, None, settings), jobs) == pool
