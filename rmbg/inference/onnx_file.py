"""Inputs, outputs and external data of an ONNX file, read from the protocol buffer without an engine.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto has the numbers of the fields.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rmbg.errors import ModelError, printable
from rmbg.runtime.messages import NOT_SET_UP, OwnerMessage

#: Messages that contain tensors: the field and the kind of each message in them.
CONTAINED = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}

#: Element types of images and masks: float32 and float16.
FLOATS = (1, 10)


@dataclass(frozen=True)
class Value:
    """Input or output of a graph.

    Attributes
    ----------
    name : str
    type : int
        Element type, a number of ``TensorProto.DataType``; 0 if it is not a tensor.
    shape : tuple of int or None, or None
        None for a dimension that is not fixed, and for an unknown rank.
    """

    name: str
    type: int
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class OnnxFile:
    """Content of an ONNX file.

    Attributes
    ----------
    inputs, outputs : tuple of Value
        Without the weights, which old files list among the inputs.
    external : tuple of str
        Names of the files with further weights, relative to the folder of the file.
    """

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    external: tuple[str, ...]


@dataclass(frozen=True)
class ImageInput:
    """Image input of a segmentation network.

    Attributes
    ----------
    layout : {"NCHW", "NHWC"}
    size : (height, width) or None
        None if any size is possible.
    """

    name: str
    layout: Literal["NCHW", "NHWC"]
    size: tuple[int, int] | None


def failure(path: Path, text: str) -> ModelError:
    """Error for a file that cannot be used; `text` follows its name."""
    return ModelError(OwnerMessage(f"{printable(str(path), 120)} {text}", NOT_SET_UP))


def read_onnx(path: Path) -> OnnxFile:
    """Read the description of a network; the weights are mapped and skipped.

    Raises
    ------
    ModelError
        If the file is not an ONNX model.
    """
    try:
        return _parse(memoryview(np.memmap(path, np.uint8, "r").data))
    except (OSError, ValueError, IndexError, TypeError):  # TypeError: a number in the place of a message
        raise failure(path, "is not an ONNX model, or it is incomplete. Export the network again.") from None


def external_files(path: Path) -> tuple[Path, ...]:
    """Return the files in which an ONNX file has further weights.

    Raises
    ------
    ModelError
        If the file is not an ONNX model, or such a file is missing or outside the folder of the ONNX file.
    """
    folder = path.parent.resolve()
    found = []
    for name in read_onnx(path).external:
        file = Path(os.path.normpath(folder / name.replace("\0", "")))
        if not (file.is_relative_to(folder) and file.resolve().is_relative_to(folder)):
            raise failure(path, f"has weights outside its folder, in {printable(name, 60)}. Export it into one folder.")
        if not file.is_file():
            raise failure(path, f"needs the file {printable(name, 60)} beside it, which is missing. Copy it there.")
        found.append(file)
    return tuple(found)


def image_input(path: Path) -> ImageInput:
    """Return the image input of a segmentation network.

    Raises
    ------
    ModelError
        If it has several inputs, or one that is not a picture of three channels.
    """
    inputs = read_onnx(path).inputs
    if len(inputs) != 1:
        names = ", ".join(printable(value.name, 30) for value in inputs[:4]) or "none"
        raise failure(path, f"has {len(inputs)} inputs ({names}), and a segmentation network has one. Choose another model.")
    name, kind, shape = inputs[0].name, inputs[0].type, inputs[0].shape
    shown = "an unknown shape" if shape is None else " x ".join("?" if side is None else str(side) for side in shape)
    advice = "Export it for one picture of three channels in float32."
    if kind not in FLOATS:
        raise failure(path, f"takes values that are not float32 or float16. {advice}")
    if shape is None or len(shape) != 4 or shape[0] not in (1, None):
        raise failure(path, f"has an input of {shown}. {advice}")
    layout: Literal["NCHW", "NHWC"] = "NHWC" if shape[3] == 3 and shape[1] != 3 else "NCHW"
    channels, height, width = (shape[3], *shape[1:3]) if layout == "NHWC" else shape[1:]
    if channels not in (3, None):
        raise failure(path, f"has an input of {shown}. {advice}")
    height, width = height or width, width or height  # square if one of them is fixed
    return ImageInput(name, layout, None if height is None or width is None else (height, width))


def _parse(data: memoryview) -> OnnxFile:
    """Parse a ``ModelProto``; raises ValueError, IndexError or TypeError if it is invalid."""
    fields = dict(_fields(data))
    graph = fields[7] if 7 in fields and isinstance(fields.get(1), int) else None
    if not isinstance(graph, memoryview):
        raise ValueError("no graph")
    values: dict[int, list[Value]] = {11: [], 12: []}
    weights = set()
    for number, value in _fields(graph):
        if number in values:
            values[number].append(_value(value))
        elif number == 5:
            weights.add(_text(dict(_fields(value)).get(8, b"")))
    if not values[12]:
        raise ValueError("no outputs")
    external = dict.fromkeys(_external(data))  # in the order of the file, without duplicates
    return OnnxFile(tuple(value for value in values[11] if value.name not in weights), tuple(values[12]), tuple(external))


def _external(data: memoryview) -> Iterator[str]:
    """Locations of external data of all tensors."""
    stack = [("model", data)]
    while stack:
        kind, message = stack.pop()
        for number, value in _fields(message):
            if kind == "tensor" and number == 13:
                entry = dict(_fields(value))
                if _text(entry.get(1, b"")) == "location":
                    yield _text(entry.get(2, b""))
            elif number in CONTAINED.get(kind, {}):
                stack.append((CONTAINED[kind][number], value))


def _value(data: memoryview) -> Value:
    """Parse a ``ValueInfoProto``."""
    fields = dict(_fields(data))
    tensor = dict(_fields(dict(_fields(fields.get(2, memoryview(b"")))).get(1, memoryview(b""))))
    shape = None
    if 2 in tensor:
        sides = [dict(_fields(side)).get(1) for number, side in _fields(tensor[2]) if number == 1]
        shape = tuple(side if isinstance(side, int) and 0 < side < 2**31 else None for side in sides)
    return Value(_text(fields.get(1, b"")), tensor.get(1, 0), shape)


def _text(data: Any) -> str:
    return bytes(data).decode("utf-8", "replace")


def _fields(data: memoryview) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a message: an int, or the bytes of a text, a message or a tensor."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        kind = key & 7
        value: int | memoryview
        if kind == 0:
            value, position = _varint(data, position)
        else:
            if kind == 2:
                length, position = _varint(data, position)
            else:
                length = {1: 8, 5: 4}.get(kind, len(data) + 1)
            value = data[position : position + length]
            position += length
            if position > len(data):
                raise ValueError("incomplete message")
        yield key >> 3, value


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    """Value of a variable-length integer, and the position after it."""
    value = shift = 0
    while True:
        byte = data[position]
        value |= (byte & 127) << shift
        position += 1
        if byte < 128:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("number too long")
