"""OpenVINO graph of the built-in network, built from its weights without torch.

The functions mirror ``rmbg.networks.builtin``; tests compare the outputs of both.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rmbg.inference.openvino_import import opset8, opset15, ov
from rmbg.inference.openvino_ops import Node, concat, constant, convolve, linear, reset_constants, resize, size_of
from rmbg.networks.builtin_spec import DEPTHS, FOREGROUND, POOLS

Weights = Mapping[str, np.ndarray]


def build_graph(weights: Weights, height: int, width: int) -> ov.Model:
    """Build the graph of the built-in network.

    Parameters
    ----------
    weights : mapping of str to float32 array
        See ``rmbg.networks.builtin_spec.read_weights``.
    height, width : int
        Of the input, multiples of 32.

    Returns
    -------
    ov.Model
        From a normalized picture, float32 (1, 3, height, width), to logits, float32 (1, 1, height, width), and the confidence
        in [0, 1], float32 (1, 1).
    """
    reset_constants()
    image = opset15.parameter([1, 3, height, width], np.float32, name="image")
    half, quarter, eighth, sixteenth, context = encode(weights, image)
    x = context
    for name, skip in (("merge16", sixteenth), ("merge8", eighth), ("merge4", quarter), ("merge2", half)):
        x = merge(weights, name, x, skip)
    small_logits = conv(weights, "matte", x)
    x = confidence_features(small_logits, context)
    x = opset15.relu(linear(x, weights["judge.0.weight"], weights["judge.0.bias"]))
    confidence = opset15.sigmoid(linear(x, weights["judge.2.weight"], weights["judge.2.bias"]))
    model = ov.Model([resize(small_logits, (height, width), "half_pixel"), confidence], [image], "builtin")
    reset_constants()
    return model


def encode(weights: Weights, image: Node) -> tuple[Node, ...]:
    """As `rmbg.networks.builtin.BuiltinNet.encode`."""
    half = conv_norm(weights, "stem", image, stride=2)
    x, levels = half, []
    for stage, depth in enumerate(DEPTHS):
        for block in range(depth):
            x = residual(weights, f"stages.{stage}.{block}", x, stride=1 if block else 2)
        levels.append(x)
    quarter, eighth, sixteenth, last = levels
    return half, quarter, eighth, sixteenth, pyramid_pooling(weights, last)


def conv(weights: Weights, name: str, x: Node, stride: int = 1) -> Node:
    """Convolution that keeps the size, or divides it by the stride."""
    kernel = weights[f"{name}.weight"]
    return convolve(x, kernel, weights[f"{name}.bias"], stride, kernel.shape[2] // 2)


def conv_norm(weights: Weights, name: str, x: Node, stride: int = 1, relu: bool = True) -> Node:
    """As `rmbg.networks.builtin.ConvNorm`, with its batch norm folded in."""
    y = conv(weights, f"{name}.conv", x, stride)
    return opset15.relu(y) if relu else y


def residual(weights: Weights, name: str, x: Node, stride: int) -> Node:
    """As `rmbg.networks.builtin.Residual`."""
    shortcut = x if stride == 1 else mean_pool(x, stride)
    if f"{name}.shortcut.conv.weight" in weights:
        shortcut = conv_norm(weights, f"{name}.shortcut", shortcut, relu=False)
    y = conv_norm(weights, f"{name}.first", x, stride)
    return opset15.relu(opset15.add(conv_norm(weights, f"{name}.second", y, relu=False), shortcut))


def pyramid_pooling(weights: Weights, x: Node) -> Node:
    """As `rmbg.networks.builtin.PyramidPooling`."""
    parts = [x]
    for index, size in enumerate(POOLS):
        pooled = opset8.adaptive_avg_pool(x, constant([size, size]))
        parts.append(resize(opset15.relu(conv(weights, f"context.branches.{index}", pooled)), size_of(x), "half_pixel"))
    return conv_norm(weights, "context.merge", concat(*parts))


def merge(weights: Weights, name: str, coarse: Node, fine: Node, extra: Node | None = None) -> Node:
    """As `rmbg.networks.builtin.Merge`."""
    up = resize(conv_norm(weights, f"{name}.coarse", coarse, relu=False), size_of(fine), "half_pixel")
    total = opset15.add(up, conv_norm(weights, f"{name}.fine", fine, relu=False))
    x = opset15.relu(total if extra is None else opset15.add(total, extra))
    return conv_norm(weights, f"{name}.second", conv_norm(weights, f"{name}.first", x))


def confidence_features(logits: Node, context: Node) -> Node:
    """As `rmbg.networks.builtin.BuiltinNet.confidence_features`."""
    one, two = constant(1, np.float32), constant(2, np.float32)
    matte = opset15.sigmoid(logits)
    small = mean_pool(matte, size_of(matte)[0] // size_of(context)[0])

    def total(x: Node) -> Node:
        return opset15.reduce_sum(x, constant([2, 3]), keep_dims=False)

    def mean(x: Node) -> Node:
        return opset15.reduce_mean(x, constant([2, 3]), keep_dims=False)

    def ratio(part: Node, whole: Node) -> Node:
        return opset15.divide(total(part), opset15.add(total(whole), one))

    rest = opset15.subtract(one, small)
    foreground = opset15.convert(opset15.greater(matte, constant(FOREGROUND, np.float32)), "f32")
    uncertainty = opset15.subtract(one, opset15.abs(opset15.subtract(opset15.multiply(two, matte), one)))
    inside, outside = ratio(opset15.multiply(context, small), small), ratio(opset15.multiply(context, rest), rest)
    return concat(inside, outside, mean(matte), mean(uncertainty), ratio(opset15.multiply(matte, foreground), matte))


def mean_pool(x: Node, stride: int) -> Node:
    """Mean of square cells."""
    return opset15.avg_pool(x, [stride, stride], [0, 0], [0, 0], [stride, stride], False, "floor")
