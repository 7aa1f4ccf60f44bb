"""What our speed is measured against, on the same weights: torch without further ado, onnxruntime, and rembg.

Speed does not depend on training, so the weights are made by a rule and nothing is downloaded. What is not installed is left
out of the comparison (pip install onnx onnxruntime rembg).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from rmbg.engines.models import MODELS, build
from rmbg.networks.load import load
from tests.networks.rule import rule_weights

Forward = Callable[[np.ndarray], np.ndarray]


def installed(*names: str) -> bool:
    return all(importlib.util.find_spec(name) for name in names)


def weights(folder: Path, name: str) -> Path:
    """A checkpoint of model `name` in `folder`, which can serve as RMBG_WEIGHTS."""
    path = folder / f"{name}.safetensors"
    if not path.exists():
        network, _ = build(MODELS[name])
        folder.mkdir(parents=True, exist_ok=True)
        save_file(rule_weights(network.state_dict(), 1), path)
    return path


def eager(name: str) -> torch.nn.Module:
    """The network as its authors run it: fp32, batch norms in place, nothing compiled."""
    network, unused = build(MODELS[name])
    load(network, rule_weights(network.state_dict(), 1), unused)
    return network.requires_grad_(False)


def torch_forward(name: str) -> Forward:
    network = eager(name)

    def run(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(image)).sigmoid().numpy()

    return run


def onnx_file(folder: Path) -> Path:
    """IS-Net as ONNX, under the name that rembg looks for."""
    path = folder / "isnet-general-use.onnx"
    if not path.exists():
        network = torch.nn.Sequential(eager("rmbg-1.4"), torch.nn.Sigmoid())
        folder.mkdir(parents=True, exist_ok=True)
        torch.onnx.export(network, (torch.zeros(1, 3, 1024, 1024),), str(path), opset_version=17, dynamo=False)
    return path


def onnxruntime_forward(folder: Path) -> Forward:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file(folder)), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


def rembg_whole(folder: Path) -> Callable[[bytes], bytes]:
    """rembg from a file's bytes to PNG bytes, with IS-Net."""
    onnx_file(folder)
    os.environ.update(U2NET_HOME=str(folder), MODEL_CHECKSUM_DISABLED="1")
    import rembg

    session: Any = rembg.new_session("isnet-general-use", providers=["CPUExecutionProvider"])
    return lambda data: rembg.remove(data, session=session)
