"""Segmentation networks in ONNX files, on OpenVINO's own reader or on onnxruntime.

A network has one image input, and a mask as its output. Of several masks of one size, as U2-Net and IS-Net export them, the
first is used. Its values are probabilities, or logits if they leave [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rmbg.errors import printable, reason
from rmbg.inference.catalog import Model
from rmbg.inference.engines import Plan
from rmbg.inference.onnx_file import external_files, failure, image_input
from rmbg.inference.openvino_runner import OpenVinoRunner, config, core
from rmbg.inference.weights import Progress, WeightsFile
from rmbg.runtime.messages import Message
from rmbg.runtime.threads import limited_cpu_count

#: Distance from [0, 1] up to which values are still probabilities, for rounding in half precision.
TOLERANCE = 0.01


class OnnxRunner(OpenVinoRunner):
    """A network in an ONNX file on OpenVINO."""

    def compile(self, model: Model, file: WeightsFile, plan: Plan) -> Any:
        return core().compile_model(read_graph(file.path, *model.input_shape(0, 0), model.classes), "CPU", config(plan))

    def run(self, images: np.ndarray, check: Callable[[], None] | None = None) -> np.ndarray:
        """Compute masks, float32 (N, h, w) in [0, 1], of normalized images, float32 (N, 3, H, W)."""
        return np.stack([probabilities(mask) for mask in super().run(images, check)])


class OnnxRuntimeRunner:
    """A network in an ONNX file on onnxruntime.

    Attributes
    ----------
    plan : Plan
    memory : int
        Bytes that the network holds, estimated by the size of the file.
    """

    def __init__(self, model: Model, file: WeightsFile, plan: Plan, progress: Progress) -> None:
        import onnxruntime  # optional

        progress(None, Message("Loading {model} on {device}", model=model.id, device=str(plan.device)))
        self.plan, self._path = plan, file.path
        self.memory = sum(path.stat().st_size for path in (file.path, *external_files(file.path)))
        self._input = image_input(file.path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = limited_cpu_count() or 0
        try:
            self._session = onnxruntime.InferenceSession(file.path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its classes derive from Exception alone
            raise failure(file.path, f"cannot be read by onnxruntime ({_cause(error)}). Export it again.") from None
        half = self._session.get_inputs()[0].type == "tensor(float16)"
        self._type = np.float16 if half else np.float32

    def run(self, images: np.ndarray, check: Callable[[], None] | None = None) -> np.ndarray:
        """Compute masks, float32 (N, h, w) in [0, 1], of normalized images, float32 (N, 3, H, W).

        `check` is called before each image; it raises to cancel.
        """
        if self._input.layout == "NHWC":
            images = np.ascontiguousarray(np.moveaxis(images, 1, -1))
        masks = []
        for image in images.astype(self._type):
            if check is not None:
                check()
            masks.append(self._mask(image))
        return np.stack(masks)

    def _mask(self, image: np.ndarray) -> np.ndarray:
        outputs = self._session.run(None, {self._input.name: image[None]})
        names = [output.name for output in self._session.get_outputs()]
        shapes = [array.shape if array.dtype.kind == "f" else () for array in outputs]
        index, axes = find_mask(self._path, names, shapes)
        return probabilities(outputs[index].squeeze(axes).astype(np.float32))


def read_graph(path: Path, height: int, width: int, classes: int = 1) -> Any:
    """Read an ONNX file as a graph with an input, float32 (1, 3, height, width), and the mask, (1, 1, h, w), as its output.

    Parameters
    ----------
    path : Path
    height, width : int
        Of the input.
    classes : int
        Channels of the output. If there are several, the mask is the probability of all but the first, the background.

    Returns
    -------
    openvino.Model

    Raises
    ------
    ModelError
        If the file is not a segmentation network that OpenVINO can run, or its weights hold NaN.
    """
    from rmbg.inference.openvino_import import opset15, ov

    found = image_input(path)
    external_files(path)  # refuses files of other folders before OpenVINO reads them
    try:
        graph = core().read_model(path)
        (entry,) = graph.get_parameters()
        graph.reshape({entry.output(0): [1, 3, height, width] if found.layout == "NCHW" else [1, height, width, 3]})
    except (RuntimeError, ValueError) as error:
        raise failure(path, f"cannot be read by OpenVINO ({_cause(error)}). Export it again, or try onnxruntime.") from None
    for operation in graph.get_ops():
        if operation.get_type_name() == "Constant" and operation.data.dtype.kind == "f" and np.isnan(operation.data).any():
            raise failure(path, f"holds NaN in {printable(operation.get_friendly_name(), 60)}. Export the network again.")
    image = opset15.parameter([1, 3, height, width], np.float32)
    node = opset15.convert(image, entry.get_element_type().to_dtype())
    if found.layout == "NHWC":
        node = opset15.transpose(node, [0, 2, 3, 1])
    for target in entry.output(0).get_target_inputs():
        target.replace_source_output(node.output(0))
    outputs = [result.input_value(0) for result in graph.get_results()]
    if classes > 1:
        logits = next((output for output in outputs if _shape(output)[1:2] == (classes,)), None)
        if logits is None:
            raise failure(path, f"has no output of {classes} channels. Download it again.")
        background = opset15.gather(opset15.softmax(opset15.convert(logits, np.float32), 1), [0], 1)
        return ov.Model([opset15.subtract(np.float32(1), background)], [image])
    names = [output.get_any_name() for output in graph.outputs]
    index, axes = find_mask(path, names, [_shape(output) for output in outputs])
    mask = opset15.convert(outputs[index], np.float32)
    mask = opset15.unsqueeze(opset15.squeeze(mask, list(axes)) if axes else mask, [0, 1])
    return ov.Model([mask], [image])


def find_mask(path: Path, names: Sequence[str], shapes: Sequence[tuple[int | None, ...]]) -> tuple[int, tuple[int, ...]]:
    """Return the index of the output that is the mask, and its axes of batch and channel.

    Parameters
    ----------
    path : Path
        For the error message.
    names : sequence of str
    shapes : sequence of tuple of int or None
        Of the outputs; None for an unknown length, empty for outputs that are not floating point.

    Raises
    ------
    ModelError
        If no output has one channel, or there are several of different sizes.
    """
    masks = {index: axes for index, shape in enumerate(shapes) if (axes := mask_axes(shape)) is not None}
    shown = ", ".join(
        f"{printable(name, 30)} {' x '.join('?' if side is None else str(side) for side in shape) or 'of another type'}"
        for name, shape in list(zip(names, shapes, strict=True))[:3]
    )
    if not masks:
        raise failure(path, f"has no output that is a mask of one channel: {shown}. Export the mask as an output.")
    if len({tuple(side for axis, side in enumerate(shapes[i]) if axis not in axes) for i, axes in masks.items()}) > 1:
        raise failure(path, f"has several masks of different sizes: {shown}. Export the final one only.")
    return next(iter(masks.items()))


def mask_axes(shape: tuple[int | None, ...]) -> tuple[int, ...] | None:
    """Return the axes of batch and channel of a mask, such as (0, 1); None for outputs that are not a mask of one channel."""
    ones = [axis for axis, side in enumerate(shape) if side == 1 or (side is None and axis == 0 and len(shape) > 2)]
    return tuple(ones) if len(shape) in (2, 3, 4) and len(shape) - len(ones) == 2 else None


def probabilities(mask: np.ndarray) -> np.ndarray:
    """Return probabilities, float32 in [0, 1], of a mask of probabilities or logits; NaN is kept."""
    if mask.min() < -TOLERANCE or mask.max() > 1 + TOLERANCE:
        return 1 / (1 + np.exp(-np.clip(mask, -60, 60)))
    return np.clip(mask, 0, 1)


def _shape(output: Any) -> tuple[int | None, ...]:
    """Shape of an output of a graph; empty if its rank is unknown or its values are not floating point."""
    if output.get_partial_shape().rank.is_dynamic or not output.get_element_type().is_real():
        return ()
    return tuple(side.get_length() if side.is_static else None for side in output.get_partial_shape())


def _cause(error: Exception) -> str:
    """Last line of an error of an engine, which has the cause."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip(" -")]
    return printable(lines[-1], 80).rstrip(".") if lines else reason(error)
