"""URLs in requests: only the address field connects to them, and only to public addresses of other machines."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


def isolate() -> list[str]:
    """Return the command that runs a program in a network namespace; empty if the system has none."""
    if not shutil.which("unshare") or not shutil.which("ip"):
        return []
    for command in (["unshare", "--net"], ["unshare", "--net", "--map-root-user"]):
        if subprocess.run([*command, "ip", "link", "set", "lo", "up"], capture_output=True).returncode == 0:
            return command
    return []


#: Variables of the servers; each server has those of the previous one as well.
ENVIRONMENTS = {"bare": {}, "result hosts": {"RMBG_RESULT_HOSTS": "127.0.0.1,localhost"}}


@pytest.fixture(scope="module")
def servers() -> dict[str, dict[str, Any]]:
    """Answers to the requests by environment."""
    command = isolate()
    if not command:
        pytest.skip("needs a network namespace")
    done = subprocess.run(
        [*command, sys.executable, "-m", "tests.security.isolated_network", json.dumps(list(ENVIRONMENTS.values()))],
        cwd=ROOT,
        env={**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"},
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 0, done.stderr
    return dict(zip(ENVIRONMENTS, json.loads(done.stdout.splitlines()[-1]), strict=True))


@pytest.fixture(params=ENVIRONMENTS)
def requests(servers: dict[str, dict[str, Any]], request: pytest.FixtureRequest) -> dict[str, Any]:
    return servers[request.param]


def test_file_references_cause_no_connections(requests):
    connected = {name: seen["connections"] for name, seen in requests.items() if seen["connections"]}
    assert not connected


def test_all_references_to_urls_get_the_same_message(requests):
    messages = {seen["message"] for name, seen in requests.items() if name.split()[0] in ("path", "bare", "page")}
    assert len(messages) == 1, messages


def test_address_field_rejects_private_and_own_addresses(requests):
    answers = {name: seen["data"] for name, seen in requests.items() if name.startswith("box")}
    assert answers and all("private network" in answer for answer in answers.values()), answers


@pytest.mark.parametrize(("field", "code"), [("image_url", "failed_image_download"), ("bg_image_url", "failed_bg_download")])
def test_rest_api_rejects_private_and_own_addresses(requests, field, code):
    answers = {name: seen["message"] for name, seen in requests.items() if name.split()[0] == field}
    assert answers and all(code in answer for answer in answers.values()), answers
