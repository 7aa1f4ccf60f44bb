"""Time and memory of the networks on OpenVINO, compared with onnxruntime on the same weights.

    python -m benchmarks.networks [NAME ...] [--rounds N]

OpenVINO runs in the precision that the app chooses on this CPU, and in fp32. Each engine has a process of its own, which loads
what has been prepared before: OpenVINO the compiled model, as the app from its second start on, and onnxruntime the file that
torch.onnx exports, which takes minutes for some networks. The engines alternate. Weights are synthetic, as speed does not
depend on training. Prepared files stay in the temporary folder; delete them after a change of the definitions.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date
from multiprocessing import get_context

import numpy as np

from benchmarks.memory import process_memory
from benchmarks.photos import FOLDER
from benchmarks.table import machine
from rmbg.inference.catalog import MODELS, Model
from rmbg.inference.device import choose
from rmbg.inference.weights import WeightsFile
from rmbg.settings import Settings

#: Height and width of the input by network.
SIZES = {"u2net": 320, "u2netp": 320, "isnet": 1024, "birefnet-lite": 1024, "inspyrenet": 1024, "ben2": 1024, "mvanet": 1024}
HEADER = (
    "| network | input | precision | OpenVINO | onnxruntime, fp32 | time | memory | largest difference of masks |\n"
    "|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and memory of the networks on OpenVINO and onnxruntime.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SIZES)}; all by default")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(SIZES):
        parser.error(f"unknown network {', '.join(sorted(unknown))}; choose from {', '.join(SIZES)}")
    from benchmarks import peers

    if not peers.installed("onnx", "onnxruntime", "onnxscript"):
        parser.error("onnx, onnxruntime or onnxscript is not installed. Run pip install -r benchmarks/requirements.txt.")
    print(f"{machine()}, {date.today()}\n\n{HEADER}", flush=True)
    for name in arguments.names or SIZES:
        compare(name, arguments.rounds)


def compare(name: str, rounds: int) -> None:
    """Print the rows of a network."""
    precisions = list(dict.fromkeys((choose(settings("auto")).precision, "fp32")))
    with new_process() as process:
        process.submit(prepare, name, precisions).result()
    processes = {engine: new_process() for engine in (*precisions, "onnxruntime")}
    for engine, process in processes.items():
        process.submit(load, name, engine).result()
    found: dict[str, list[tuple[float, int]]] = {engine: [] for engine in processes}
    for _ in range(rounds + 1):  # the first one is a warm-up
        for engine, process in processes.items():
            found[engine].append(process.submit(measure).result())
    masks = {engine: process.submit(mask).result() for engine, process in processes.items()}
    for process in processes.values():
        process.shutdown()
    seconds = {engine: statistics.median(taken for taken, _ in runs[1:]) for engine, runs in found.items()}
    megabytes = {engine: runs[-1][1] / 1e6 for engine, runs in found.items()}
    figures = {engine: f"{seconds[engine]:.2f} s, {megabytes[engine]:,.0f} MB" for engine in processes}
    for precision in precisions:
        cells = [name, model(name).input_size, precision, figures[precision], figures["onnxruntime"]]
        cells += [f"{values[precision] / values['onnxruntime']:.2f}" for values in (seconds, megabytes)]
        cells += [f"{np.abs(masks[precision] - masks['onnxruntime']).max():.2g}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def new_process() -> ProcessPoolExecutor:
    """A process that inherits no memory of this one."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def model(name: str) -> Model:
    """The model of a network; those of the catalog have other ids, or are ONNX files."""
    if name == "birefnet-lite":
        return MODELS[name]
    return replace(MODELS["rmbg-1.4"], id=name, architecture=name, size=SIZES[name])


def settings(precision: str) -> Settings:
    """Settings of a precision. Each has a data folder, as a folder has one compiled model of a network."""
    return Settings.from_environ({"RMBG_ENGINE": "openvino", "RMBG_PRECISION": precision, "RMBG_DATA": str(FOLDER / precision)})


def prepare(name: str, precisions: list[str]) -> None:
    """Write the files that `load` reads."""
    import torch

    from benchmarks import peers
    from rmbg.inference.torch_runner import load_network

    weights = peers.weights(FOLDER, model(name))
    onnx = FOLDER / f"{name}.onnx"
    if not onnx.exists():
        network = torch.nn.Sequential(load_network(model(name), WeightsFile(weights, "")), torch.nn.Sigmoid()).eval()
        image = torch.zeros(1, 3, model(name).size, model(name).size)
        torch.onnx.export(network, (image,), str(onnx), dynamo=True, verbose=False)
    for precision in precisions:
        load(name, precision)


#: Network of this process, its input, and its last mask.
_forward: Callable[[np.ndarray], np.ndarray]
_image: np.ndarray
_mask: np.ndarray


def load(name: str, engine: str) -> None:
    """Load a network in this process: in a precision on OpenVINO, or on ``onnxruntime`` in fp32."""
    global _forward, _image
    size = model(name).size
    _forward = onnxruntime_forward(name) if engine == "onnxruntime" else openvino_forward(name, engine)
    _image = np.random.default_rng(0).uniform(-1, 1, (1, 3, size, size)).astype(np.float32)


def openvino_forward(name: str, precision: str) -> Callable[[np.ndarray], np.ndarray]:
    """Forward pass of a network on OpenVINO, which is compiled if that has not been done."""
    from rmbg.inference.openvino_runner import OpenVinoRunner

    chosen = settings(precision)
    file = WeightsFile(FOLDER / f"{name}.safetensors", "")
    return OpenVinoRunner(model(name), file, choose(chosen), chosen, lambda fraction, text: None).run


def onnxruntime_forward(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Forward pass of a network on onnxruntime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(FOLDER / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    return lambda x: session.run(None, {image.name: x})[0][:, 0]


def measure() -> tuple[float, int]:
    """Seconds of a run, and the peak memory of this process in bytes."""
    global _mask
    started = time.perf_counter()
    _mask = _forward(_image)
    return time.perf_counter() - started, process_memory("VmHWM")


def mask() -> np.ndarray:
    """Mask of the last run, float32 (1, size, size)."""
    return _mask


if __name__ == "__main__":
    main()
