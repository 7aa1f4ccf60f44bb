"""ONNX files, encoded as protocol buffers without the package ``onnx``.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto has the numbers of the fields.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np

#: Element types by NumPy type.
TYPES = {"float32": 1, "int64": 7, "float16": 10}

#: A tensor of a graph: name, type and shape, in which a text is a length that is not fixed.
Value = tuple[str, str, Sequence[int | str]]


def field(number: int, value: int | str | bytes | float) -> bytes:
    """Encode a field of a message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Sequence[int] | int) -> bytes:
    """Encode a ``NodeProto`` whose attributes are integers and lists of integers."""
    data = b"".join([*(field(1, name) for name in inputs), *(field(2, name) for name in outputs), field(4, operator)])
    for name, value in attributes.items():
        numbers = (
            field(3, value) + field(20, 2) if isinstance(value, int) else b"".join(field(8, n) for n in value) + field(20, 7)
        )
        data += field(5, field(1, name) + numbers)
    return data


def tensor(name: str, values: np.ndarray, location: str | None = None) -> bytes:
    """Encode a ``TensorProto``, whose values are in the file `location` if it is given."""
    data = b"".join(field(1, side) for side in values.shape) + field(2, TYPES[str(values.dtype)]) + field(8, name)
    if location is None:
        return data + field(9, values.tobytes())
    return data + field(13, field(1, "location") + field(2, location)) + field(14, 1)


def model(inputs: Sequence[Value], outputs: Sequence[Value], nodes: Sequence[bytes], tensors: Sequence[bytes] = ()) -> bytes:
    """Encode a ``ModelProto`` of operator set 17."""
    graph = b"".join(field(1, one) for one in nodes) + field(2, "graph") + b"".join(field(5, one) for one in tensors)
    graph += b"".join(field(11, _value(one)) for one in inputs) + b"".join(field(12, _value(one)) for one in outputs)
    return field(1, 8) + field(7, graph) + field(8, field(1, "") + field(2, 17))


def color_network(
    size: int | str = 64,
    *,
    weight: Sequence[float] = (20.0, -20.0, 0.0),
    bias: float = 0.0,
    logits: bool = False,
    layout: str = "NCHW",
    type: str = "float32",
    masks: int = 1,
    location: str | None = None,
) -> bytes:
    """Encode a network whose mask is a linear function of the color of each pixel, followed by a sigmoid without `logits`.

    With several `masks`, all but the first are inverted.
    """
    image: Sequence[int | str] = (1, 3, size, size) if layout == "NCHW" else (1, size, size, 3)
    mask: Sequence[int | str] = (1, 1, size, size) if layout == "NCHW" else (1, size, size, 1)
    nodes, start = [], "image"
    if layout == "NHWC":
        nodes, start = [node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2])], "planes"
    nodes.append(node("Conv", [start, "weight", "bias"], ["logits"], kernel_shape=[1, 1]))
    final = "logits"
    if not logits:
        nodes.append(node("Sigmoid", ["logits"], ["mask"]))
        final = "mask"
    if layout == "NHWC":
        nodes.append(node("Transpose", [final], ["last"], perm=[0, 2, 3, 1]))
        final = "last"
    names = [final]
    for index in range(1, masks):
        names.append(f"mask{index}")
        nodes.append(node("Neg", [final], [names[-1]]))
    tensors = [
        tensor("weight", np.array(weight, type).reshape(1, 3, 1, 1), location),
        tensor("bias", np.array([bias], type)),
    ]
    return model([("image", type, image)], [(name, type, mask) for name in names], nodes, tensors)


def _value(value: Value) -> bytes:
    name, type, shape = value
    sides = b"".join(field(1, field(1, side) if isinstance(side, int) else field(2, side)) for side in shape)
    return field(1, name) + field(2, field(1, field(1, TYPES[type]) + field(2, sides)))


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])
