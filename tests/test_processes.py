"""Processes of the fork server are equivalent to those of a new interpreter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from tests.processes import FORK, ROOT, python, with_constants
from tests.servers.web import until

LIMIT = 120

PROBE = """
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), os.environ.get("RMBG_PROBE"), sys.stdin.read(), __name__]))
sys.stderr.write("error")
sys.exit(7)
"""

# Tests of the helpers of tests.
pytestmark = [pytest.mark.skipif(not FORK, reason="processes are not forked on this system"), pytest.mark.long]


@pytest.mark.parametrize("forked", [True, False])
def test_arguments_streams_environment_folder_and_status(tmp_path, forked):
    words = ["-c", PROBE, "first", "second"]
    command = python(*words) if forked else [sys.executable, *words]
    env = {**os.environ, "RMBG_PROBE": "a value"}
    done = subprocess.run(command, cwd=tmp_path, env=env, input="typed", capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (7, "error")
    assert json.loads(done.stdout) == [["-c", "first", "second"], str(tmp_path), "a value", "typed", "__main__"]


@pytest.mark.parametrize("more", [{"HF_HOME": "elsewhere"}, {"PYTORCH_ENABLE_MPS_FALLBACK": "0"}])
def test_variables_read_at_import_start_a_new_interpreter(more):
    code = "import sys; print('torch' in sys.modules)"
    env = {**os.environ, **more}
    done = subprocess.run(python("-c", code), env=env, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert done.stdout.strip() == "False", done


@pytest.mark.parametrize(
    "name", ["FORWARDED_ALLOW_IPS", "TORCHINDUCTOR_CACHE_DIR", "RAY_BACKEND_LOG_LEVEL", "PYTHONBREAKPOINT"]
)
def test_variables_that_other_tests_set_do_not_start_a_new_interpreter(app, name):
    """They are set where the page is built, a network of transformers is loaded, or Ray is imported."""
    code = "import sys; print('torch' in sys.modules)"
    env = {**os.environ, name: "another"}
    done = subprocess.run(python("-c", code), env=env, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert done.stdout.strip() == "True", done


def test_variables_of_gradio_are_those_of_the_process(tmp_path):
    code = "import os; os.environ['GRADIO_TEMP_DIR'] = 'late'; import gradio; print(gradio.route_utils.DEFAULT_TEMP_DIR)"
    code += "; import gradio.http_server as h; print(h.INITIAL_PORT_VALUE)"
    env = {**os.environ, "GRADIO_SERVER_PORT": "7999"}
    done = subprocess.run(python("-c", code), env=env, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert done.stdout.split() == ["late", "7999"], done


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_signals_end_the_process(tmp_path, number):
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    with subprocess.Popen(python("-c", code), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        own = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(LIMIT) == -number
    assert until(lambda: not os.path.exists(f"/proc/{own}"), LIMIT)  # noqa: PTH110


@pytest.mark.parametrize(("unbuffered", "status"), [("", 120), ("1", 1)])
def test_failed_write_has_the_status_of_the_interpreter(unbuffered, status):
    env = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    for command in (python("-c", "print('text')"), [sys.executable, "-c", "print('text')"]):
        with open("/dev/full", "wb") as full:
            done = subprocess.run(command, env=env, stdout=full, stderr=subprocess.DEVNULL, timeout=LIMIT)
        assert done.returncode == status


def test_constants_are_set_before_the_command_runs():
    program = with_constants(cli__output__MISSING=1)
    done = subprocess.run(python(*program, "--version"), cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 1 and "MISSING" in done.stderr
    program = with_constants(net__client__BACKOFF=0.25)
    done = subprocess.run(python(*program, "--version"), cwd=ROOT, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0 and done.stdout.startswith("rmbg ")
