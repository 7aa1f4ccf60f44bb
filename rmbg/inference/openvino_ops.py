"""Operations of OpenVINO graphs on nodes of static shape, with arrays or tensors as constants.

torch is not imported here: the built-in network is built from arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np

from rmbg.inference.openvino_import import opset15

if TYPE_CHECKING:
    import torch

Node = Any

#: Constants of the graph under construction, so that the backbone of BiRefNet, which runs twice, is stored once.
_constants: ContextVar[dict[Any, tuple[Node, Any]]] = ContextVar("_constants")


def reset_constants() -> None:
    """Discard the constants of the previous graph; called before and after the construction of a graph."""
    _constants.set({})


def linear(x: Node, weight: torch.Tensor | np.ndarray, bias: torch.Tensor | np.ndarray | None) -> Node:
    """Linear layer over the last axis."""
    y = opset15.matmul(x, constant(weight), False, True)
    return y if bias is None else opset15.add(y, constant(bias))


def convolve(
    x: Node,
    weight: torch.Tensor | np.ndarray,
    bias: torch.Tensor | np.ndarray | None,
    stride: int = 1,
    padding: int | Sequence[int] = 0,
    dilation: int = 1,
) -> Node:
    """Convolution of a node (N, C, H, W); `padding` is one number, or those of height and width."""
    pad = [padding, padding] if isinstance(padding, int) else list(padding)
    y = opset15.convolution(x, constant(weight), [stride, stride], pad, pad, [dilation, dilation])
    return y if bias is None else opset15.add(y, constant(bias.reshape(1, -1, 1, 1)))


def conv(x: Node, module: Any) -> Node:
    """Convolution with the parameters of a torch module."""
    return convolve(x, module.weight, module.bias, module.stride[0], module.padding, module.dilation[0])


def halve(x: Node) -> Node:
    """Max pooling over 2x2; odd sizes are rounded up."""
    return opset15.max_pool(x, [2, 2], [1, 1], [0, 0], [0, 0], [2, 2], "ceil").output(0)


def normalize(x: Node, norm: Any) -> Node:
    """Layer norm over the channels, the last axis."""
    y = opset15.mvn(x, constant([-1]), True, norm.eps, "inside_sqrt")
    return opset15.add(opset15.multiply(y, constant(norm.weight)), constant(norm.bias))


def resize(x: Node, size: Sequence[int], corners: str = "align_corners") -> Node:
    """Resize bilinearly; `corners` is the coordinate transformation, ``align_corners`` or ``half_pixel``."""
    if tuple(size) == size_of(x):
        return x
    target = constant(list(size))
    return opset15.interpolate(x, target, "linear_onnx", "sizes", coordinate_transformation_mode=corners, axes=constant([2, 3]))


def concat(*nodes: Node) -> Node:
    """Concatenation of channels."""
    return opset15.concat(list(nodes), 1)


def size_of(x: Node) -> tuple[int, int]:
    """Height and width of a node (N, C, H, W)."""
    shape = x.get_output_shape(0) if hasattr(x, "get_output_shape") else x.get_shape()
    return shape[2], shape[3]


def reshape(x: Node, *shape: int) -> Node:
    """Reshape to a static shape."""
    return opset15.reshape(x, constant(list(shape)), False)


def transpose(x: Node, *order: int) -> Node:
    """Permute the axes."""
    return opset15.transpose(x, constant(list(order)))


def constant(value: Any, dtype: Any = np.int64) -> Node:
    """Constant of a number, a list, or a tensor or array, which are neither copied nor stored twice."""
    if isinstance(value, (int, float, list)):
        return opset15.constant(np.asarray(value, dtype))
    constants = _constants.get()
    array = value if isinstance(value, np.ndarray) else value.detach().numpy()
    key = array.__array_interface__["data"], array.shape, array.strides
    if key not in constants:
        # The value is kept alive, so that its address is not reused for another one.
        constants[key] = opset15.constant(np.ascontiguousarray(array), shared_memory=True), value
    return constants[key][0]


def submodule(module: torch.nn.Module, name: str) -> Any:
    """Submodule by its dotted name, without a type."""
    return module.get_submodule(name)
