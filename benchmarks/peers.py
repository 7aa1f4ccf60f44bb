"""Programs that speed is compared with, on the same weights: plain torch, onnxruntime and rembg.

Weights are synthetic, as speed does not depend on training, and nothing is downloaded. Programs that are not installed are
left out (pip install onnx onnxruntime rembg).
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from rmbg.inference.catalog import MODELS, Model, build
from rmbg.networks.load import load
from tests.networks.rule import inspyrenet_weights, rule_weights

Forward = Callable[[np.ndarray], np.ndarray]


def installed(*names: str) -> bool:
    """True if all modules can be imported."""
    return all(importlib.util.find_spec(name) for name in names)


def weights(folder: Path, model: Model) -> Path:
    """Path of a synthetic checkpoint of a model in `folder`, which can be used as RMBG_WEIGHTS."""
    path = folder / f"{model.id}.safetensors"
    if not path.exists():
        network, _ = build(model)
        tensors = network.state_dict()
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            inspyrenet_weights(tensors, model.size) if model.architecture == "inspyrenet" else rule_weights(tensors, 1), path
        )
    return path


def eager(name: str) -> torch.nn.Module:
    """The network in its published form: fp32, separate batch norms, not compiled."""
    network, unused = build(MODELS[name])
    load(network, rule_weights(network.state_dict(), 1), unused)
    return network.requires_grad_(False)


def torch_forward(name: str) -> Forward:
    """Forward pass of the network on plain torch."""
    network = eager(name)

    def run(image: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(image)).sigmoid().numpy()

    return run


def onnx_path(folder: Path) -> Path:
    """Path of IS-Net as ONNX, with the file name that rembg expects, whether it exists or not."""
    return folder / "isnet-general-use.onnx"


def onnx_file(folder: Path) -> Path:
    """Path of IS-Net as ONNX, exported if it does not exist."""
    path = onnx_path(folder)
    if not path.exists():
        network = torch.nn.Sequential(eager("rmbg-1.4"), torch.nn.Sigmoid())
        folder.mkdir(parents=True, exist_ok=True)
        torch.onnx.export(network, (torch.zeros(1, 3, 1024, 1024),), str(path), opset_version=17, dynamo=False)
    return path


def onnxruntime_forward(folder: Path) -> Forward:
    """Forward pass of IS-Net on onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_file(folder)), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: session.run(None, {name: image})[0]


def rembg_pipeline(folder: Path, matte: Callable[[tuple[int, int]], np.ndarray]) -> Callable[[bytes], bytes]:
    """rembg with IS-Net, from the bytes of a file to those of a PNG.

    The network runs, and its mask is replaced by `matte` (size), as the weights are synthetic.
    """
    onnx_file(folder)
    os.environ.update(U2NET_HOME=str(folder), MODEL_CHECKSUM_DISABLED="1")
    import rembg

    session: Any = rembg.new_session("isnet-general-use", providers=["CPUExecutionProvider"])
    predict = session.predict

    def predicted(image: Image.Image, *args: Any, **options: Any) -> list[Image.Image]:
        predict(image, *args, **options)
        return [Image.fromarray(matte(image.size))]

    session.predict = predicted
    return lambda data: rembg.remove(data, session=session)
