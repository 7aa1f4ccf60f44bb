"""The wheel, built from the source distribution and installed in an environment of its own outside of the checkout.

The environment has no torch, which is an extra.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import BytesParser
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from PIL import Image

from rmbg.version import __version__
from tests.onnx_files import color_network
from tests.pictures import examples
from tests.security.server import Server
from tests.sentences import sentence

ROOT = Path(__file__).resolve().parents[1]

EXTRAS = {"heic", "openvino", "cuda", "ray", "mcp", "cloud", "bench", "train"}

#: Imported at the start of Python: packages that are in this environment and not among the requirements of the wheel.
WITHOUT_TORCH = "import sys; sys.modules.update(torch=None, transformers=None)"

#: Most bytes of the source distribution; the weights of the built-in network have 11.5 million.
MAX_SDIST = 14_000_000

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the paths of the environment are those of POSIX")


def build(source: Path, kind: str, target: Path) -> Path:
    """Build ``sdist`` or ``wheel`` from a source tree, and return the file."""
    target.mkdir()
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    done = subprocess.run([sys.executable, "-c", code], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sdist")
    skipped = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info", "shared", "out")
    shutil.copytree(ROOT, folder / "source", ignore=skipped)
    return build(folder / "source", "sdist", folder / "dist")


@pytest.fixture(scope="module")
def wheel(sdist):
    folder = sdist.parents[1]
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    return build(source, "wheel", folder / "wheel")


@pytest.fixture(scope="module", params=["shared", pytest.param("own", marks=pytest.mark.long)])
def environment(request, wheel, tmp_path_factory):
    """Folder of programs of an environment with the wheel.

    The requirements are those of this environment, or are installed from the package index into an empty one.
    """
    folder = tmp_path_factory.mktemp("environment")
    python = folder / "bin/python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    if request.param == "own":
        subprocess.run([*install, f"{wheel}[mcp]"], check=True)
        subprocess.run([*install[:5], "check"], check=True)
    else:
        subprocess.run([*install, "--no-deps", str(wheel)], check=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        paths = [path for path in sys.path if path.endswith("site-packages")] or [sysconfig.get_path("purelib")]
        (packages / "requirements.pth").write_text("\n".join([*paths, WITHOUT_TORCH]))
    return folder / "bin"


def test_source_distribution_is_small(sdist):
    assert sdist.stat().st_size < MAX_SDIST
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert not [name for name in names if name.startswith(("tests", "train", "benchmarks", "docs", "."))]
    assert {"README.md", "LICENSE", "CHANGELOG.md", "requirements.txt", "rmbg/py.typed"} <= names
    assert not [name for name in names if name.startswith("examples/") and name.endswith(".py")]


def test_metadata_and_files(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (metadata,) = (name for name in names if name.endswith("METADATA"))
        fields = BytesParser().parsebytes(archive.read(metadata))
    assert fields["Version"] == __version__ and set(fields.get_all("Provides-Extra")) >= EXTRAS
    assert fields.get_payload().startswith("# RMBG Studio") and fields["Description-Content-Type"] == "text/markdown"
    assert set(fields.get_all("License-File")) == {"LICENSE", "THIRD_PARTY_NOTICES.md"}
    app = {r.name: r.specifier for r in map(Requirement, re.findall(r"^\w.*", (ROOT / "requirements.txt").read_text(), re.M))}
    required = [Requirement(text) for text in fields.get_all("Requires-Dist")]
    assert {r.name for r in required if r.marker is None} == set(app) - {"torch", "transformers"}
    for requirement in required:
        assert requirement.specifier == app.get(requirement.name, requirement.specifier) or requirement.extras, requirement
    pictures = sorted(name for name in names if name.startswith("rmbg/examples/") and "/im/" in name)
    assert [Path(name).name for name in pictures] == [path.name for path in examples()]
    assert {name.replace("/im/", "/gt/").replace(".jpg", ".png") for name in pictures} <= set(names)
    assert {name.split("/")[0] for name in names} == {"rmbg", metadata.split("/")[0]}
    source = {p.relative_to(ROOT).as_posix() for p in (ROOT / "rmbg").rglob("*") if p.is_file() and p.suffix != ".pyc"}
    assert not {name for name in source if not name.endswith("README.md")} - set(names), "files are missing in the wheel"


def test_commands_run_from_the_package(environment, tmp_path):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "RMBG_"))}
    out = tmp_path / "cutout.png"
    command = [str(environment / "rmbg"), "remove", str(examples()[0]), str(out)]
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Image.open(out) as cutout:
        assert cutout.mode == "RGBA"
    command[2:] = [str(examples()[0]), str(tmp_path / "other.png"), "--provider", "birefnet"]
    done = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True)
    assert done.returncode == 1 and "needs torch, which is not installed" in sentence(done.stderr.strip())
    (tmp_path / "network.onnx").write_bytes(color_network(64))
    command[2:] = [str(examples()[0]), str(tmp_path / "own.png"), "--model", "network.onnx"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**clean, "RMBG_DATA": str(tmp_path / "data")}, capture_output=True, text=True
    )
    assert done.returncode == 0 and "on the examples" in done.stderr, "an ONNX file needs no torch"
    server = Server(tmp_path / "server", cwd=tmp_path)
    server.command[:-4] = [str(environment / "rmbg"), "serve"]
    server.env = {**{k: v for k, v in server.env.items() if not k.startswith("PYTHON")}, "PYTHONUNBUFFERED": "1"}
    with server:
        config = httpx.get(f"{server.url}/config", trust_env=False, timeout=60).json()
    (row,) = (part["props"] for part in config["components"] if part["props"].get("elem_id") == "examples")
    assert len(row["samples"]) == len(examples()), "the page has the examples"
    if importlib.util.find_spec("mcp") is not None:
        assert f"{server.url}/gradio_api/mcp/" in server.log.read_text(), "a line at the start"
