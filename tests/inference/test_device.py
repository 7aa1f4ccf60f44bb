"""rmbg.inference.device: choice of engine, device and precision, and the environment of torch."""

import os
import subprocess
import sys

import pytest

from rmbg.errors import NotReadyError
from rmbg.inference.device import choose
from rmbg.settings import Settings
from tests.sentences import sentence


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("cuda:7", "RMBG_DEVICE is 'cuda:7', and torch finds [0-9]+ CUDA device"),
        ("tpu", "RMBG_DEVICE is 'tpu'. Set it to auto, cpu"),
        ("cpu:1", "RMBG_DEVICE is 'cpu:1'. Set it to auto, cpu"),
    ],
)
def test_an_unavailable_device_is_an_error(device, message):
    with pytest.raises(NotReadyError, match=message) as raised:
        choose(Settings(device=device))
    sentence(raised.value)


CODE = """
import os, sys
before = dict(os.environ)
import rmbg.inference.model_cache, rmbg.inference.torch_import
assert dict(os.environ) == before and "torch" not in sys.modules
torch = rmbg.inference.torch_import.import_torch()
assert torch.__name__ == "torch"
print(os.environ["PYTORCH_ENABLE_MPS_FALLBACK"])
"""


@pytest.mark.parametrize(("own", "expected"), [(None, "1"), ("0", "0")])
def test_the_fallback_of_mps_is_enabled_with_torch_and_not_before(own, expected):
    """Importing the package changes nothing, and a value that the user has set is kept."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTORCH_ENABLE_MPS_FALLBACK"}
    if own is not None:
        environment["PYTORCH_ENABLE_MPS_FALLBACK"] = own
    done = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip()) == (0, expected), done.stderr
