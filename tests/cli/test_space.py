"""``space``: the folder runs as a Space does, and is uploaded to a loopback hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from gradio_client import Client, handle_file
from PIL import Image

from rmbg.cli.space import CONTENT, ROOT
from rmbg.inference.catalog import VITMATTE
from tests.mcp_client import with_session
from tests.pictures import examples
from tests.security.server import Server
from tests.sentences import sentence
from tests.servers.space_hub import TOKEN, SpaceHub

#: Variables of a running Space on the hardware cpu-basic, and those of the sign-in.
SPACE = {
    "SYSTEM": "spaces",
    "SPACE_ID": "ann/studio",
    "SPACE_HOST": "ann-studio.hf.space",
    "SPACE_AUTHOR_NAME": "ann",
    "SPACE_REPO_NAME": "studio",
    "SPACE_TITLE": "RMBG Studio",
    "SPACE_CREATOR_USER_ID": "0123456789abcdef01234567",
    "ACCELERATOR": "none",
    "CPU_CORES": "2",
    "MEMORY": "16Gi",
    "GRADIO_SERVER_NAME": "0.0.0.0",
    "GRADIO_NUM_PORTS": "1",
    "GRADIO_THEME": "huggingface",
    "PYTHONPATH": "",
}
SIGN_IN = {
    "OAUTH_CLIENT_ID": "client",
    "OAUTH_CLIENT_SECRET": "secret",
    "OAUTH_SCOPES": "openid profile inference-api gated-repos",
    "OPENID_PROVIDER_URL": "https://huggingface.co",
}

#: Packages that a Space of the Gradio SDK installs beside requirements.txt.
SPACE_PACKAGES = ("gradio[oauth,mcp]=={sdk_version}", "uvicorn>=0.14.0", "websockets>=10.4", "spaces")

#: The CPU wheel of torch that the index has for this test; a range would install gigabytes of CUDA libraries.
TORCH = "torch==2.13.0"


@pytest.fixture
def hub(monkeypatch):
    with SpaceHub("ann") as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield hub


def front_matter(text: str) -> dict:
    return yaml.safe_load(text.split("---")[1])


def test_folder_runs_as_a_space(rmbg, tmp_path):
    folder = tmp_path / "space"
    preload = ("--preload", "birefnet", "--preload", "rmbg-1.4", "--preload", "vitmatte")
    assert rmbg("space", folder, "--hardware", "t4-small", *preload, "--sign-in")[0] == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted((*CONTENT, ".gitattributes"))
    front = front_matter((folder / "README.md").read_text(encoding="utf-8"))
    assert front == front_matter((ROOT / "README.md").read_text(encoding="utf-8")) | {
        "suggested_hardware": "t4-small",
        "preload_from_hub": [
            "ZhengPeng7/BiRefNet model.safetensors",
            "briaai/RMBG-1.4 model.safetensors",
            f"{VITMATTE.hub} model.safetensors {VITMATTE.revision}",
        ],
        "hf_oauth": True,
        "hf_oauth_scopes": ["inference-api", "gated-repos"],
    }
    with Server(tmp_path / "server", entry=("app.py",), cwd=folder, **SPACE) as server:
        check_removal(server, tmp_path)


def test_binary_files_are_pushed_through_git_lfs(rmbg, tmp_path):
    """The hub rejects pushes with other binary files, or with files above 10 MB."""
    folder = tmp_path / "space"
    assert rmbg("space", folder)[0] == 0
    subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
    files = [path for path in folder.rglob("*") if path.is_file() and ".git" not in path.relative_to(folder).parts]
    binary = {path.relative_to(folder).as_posix() for path in files if b"\0" in path.read_bytes()[:8000]}
    binary |= {path.relative_to(folder).as_posix() for path in files if path.stat().st_size > 10_000_000}
    assert "rmbg/networks/builtin.safetensors" in binary
    check = ["git", "check-attr", "filter", "--stdin"]
    run = subprocess.run(check, cwd=folder, input="\n".join(sorted(binary)), capture_output=True, text=True, check=True)
    assert [line for line in run.stdout.splitlines() if not line.endswith(": filter: lfs")] == []


def check_removal(server: Server, folder: Path) -> None:
    """Remove a background through gradio_client."""
    client = Client(server.url, verbose=False, download_files=str(folder / "downloads"), analytics_enabled=False)
    result = client.predict(image=handle_file(str(examples()[0])), api_name="/remove_background")
    with Image.open(result) as cutout, Image.open(examples()[0]) as photo:
        assert cutout.mode == "RGBA" and cutout.size == photo.size
        assert cutout.getextrema()[3] == (0, 255), "a subject on a transparent background"
    client.close()


@pytest.mark.long
def test_folder_runs_in_an_environment_with_the_packages_of_a_space(rmbg, tmp_path):
    """Page, sign-in, MCP and the package of ZeroGPU in an empty environment with the versions that a Space installs."""
    folder, environment = tmp_path / "space", tmp_path / "environment"
    assert rmbg("space", folder, "--sign-in")[0] == 0
    front = front_matter((folder / "README.md").read_text(encoding="utf-8"))
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GRADIO_", "RMBG_"))}
    packages = [package.format(**front) for package in SPACE_PACKAGES]
    install = [str(python), "-m", "pip", "install", "--quiet", TORCH, "-r", "requirements.txt", *packages]
    subprocess.run(install, cwd=folder, env=clean, check=True)
    subprocess.run([str(python), "-m", "pip", "check"], cwd=folder, env=clean, check=True)

    server = Server(tmp_path / "server", entry=("app.py",), cwd=folder, **SPACE, **SIGN_IN, HF_HOME=str(tmp_path / "home"))
    server.command = [str(python), "app.py"]
    server.env = {name: value for name, value in server.env.items() if not name.startswith("PYTHON")}
    with server:
        check_removal(server, tmp_path)
        with server.client() as http:
            assert '"sign-in"' in http.get("/config").text and http.get("/healthz").is_success
        tools = with_session(f"{server.url}/gradio_api/mcp/", lambda session: session.list_tools()).tools
        names = ("remove_background", "compare_providers", "replace_background", "batch", "list_providers")
        assert {tool.name for tool in tools} == {f"studio_{name}" for name in names}, "Gradio prefixes the name of the Space"

    # `app.py` imports the package of ZeroGPU on such hardware only; without it, its decorator has no effect.
    code = (
        "import spaces, os; os.environ['SPACES_ZERO_GPU'] = 'true'; from rmbg.inference import zerogpu; "
        "assert zerogpu.is_zerogpu() and zerogpu.run.__name__ == 'run'"
    )
    subprocess.run([str(python), "-c", code], cwd=folder, env=clean, check=True)


def test_upload(rmbg, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("FAL_KEY", "secret-of-fal")
    hub.files["old.py"] = b""
    arguments = [
        "--repo",
        "ann/studio",
        "--secret",
        "FAL_KEY",
        "--variable",
        "RMBG_DAILY_BUDGET_USD=1",
        "--hardware",
        "cpu-basic",
    ]
    status, out, err = rmbg("space", tmp_path / "space", *arguments, "--private")
    assert status == 0 and out.strip() == f"{hub.url}/spaces/ann/studio"
    assert hub.created["type"] == "space" and hub.created["sdk"] == "gradio"
    assert hub.secrets == {"FAL_KEY": "secret-of-fal"} and hub.variables == {"RMBG_DAILY_BUDGET_USD": "1"}
    assert hub.hardware == "cpu-basic" and "secret-of-fal" not in out + err
    local = {
        path.relative_to(tmp_path / "space").as_posix(): path for path in (tmp_path / "space").rglob("*") if path.is_file()
    }
    assert set(hub.files) == set(local) and all(path.read_bytes() == hub.files[name] for name, path in local.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--repo", "studio"), "must be OWNER/NAME"),
        (("--hardware", "A 100"), "must be a name such as"),
        (("--preload", "rmbg-2.0"), "choose from"),
        (("--secret", "FAL_KEY"), "Add --repo"),
        (("--repo", "ann/studio", "--secret", "NOT_SET"), "is not set in the environment"),
        (("--repo", "ann/studio", "--variable", "BUDGET"), "must be NAME=VALUE"),
    ],
)
def test_invalid_options(rmbg, tmp_path, monkeypatch, arguments, message):
    monkeypatch.setenv("FAL_KEY", "key")
    status, _, err = rmbg("space", tmp_path / "space", *arguments)
    assert status == 2 and message in sentence(err.strip()) and not (tmp_path / "space").exists()


@pytest.mark.parametrize(
    ("token", "repo", "message"), [("hf_other", "ann/studio", "rejected the token"), (TOKEN, "bob/studio", "may not write")]
)
def test_rejected_uploads(rmbg, hub, tmp_path, monkeypatch, token, repo, message):
    monkeypatch.setenv("HF_TOKEN", token)
    status, _, err = rmbg("space", tmp_path / "space", "--repo", repo)
    assert status == 1 and message in sentence(err.strip()) and token not in err


def test_unreachable_hub(rmbg, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    status, _, err = rmbg("space", tmp_path / "space", "--repo", "ann/studio")
    assert status == 1 and "could not be reached" in sentence(err.strip())


def test_existing_files_are_kept(rmbg, tmp_path):
    (tmp_path / "space").mkdir()
    (tmp_path / "space/mine.txt").write_text("mine")
    for folder in (tmp_path / "space", tmp_path / "space/mine.txt"):
        status, _, err = rmbg("space", folder)
        assert status == 1 and "is not an empty folder" in sentence(err.replace(str(tmp_path), "TMP").strip())
    assert [path.name for path in tmp_path.iterdir()] == ["space"]
    assert [path.read_text() for path in (tmp_path / "space").iterdir()] == ["mine"]
