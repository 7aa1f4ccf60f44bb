"""OpenVINO graphs of the built-in network and of the refiner, built from their weights without torch.

The functions mirror ``rmbg.networks.builtin`` and ``rmbg.networks.refiner``; tests compare the outputs of both.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rmbg.inference.openvino_import import opset8, opset15, ov
from rmbg.inference.openvino_ops import Node, concat, constant, convolve, linear, reset_constants, resize, size_of
from rmbg.networks.builtin_spec import DEPTHS, FOREGROUND, MEAN, POOLS, STD
from rmbg.networks.refiner_spec import CELL, LOGIT_EPSILON, MAX_LOGIT, WINDOW

Weights = Mapping[str, np.ndarray]


def builtin_graph(weights: Weights, height: int, width: int) -> ov.Model:
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
    one, two = number(1), number(2)
    matte = opset15.sigmoid(logits)
    small = mean_pool(matte, size_of(matte)[0] // size_of(context)[0])

    def total(x: Node) -> Node:
        return opset15.reduce_sum(x, constant([2, 3]), keep_dims=False)

    def mean(x: Node) -> Node:
        return opset15.reduce_mean(x, constant([2, 3]), keep_dims=False)

    def ratio(part: Node, whole: Node) -> Node:
        return opset15.divide(total(part), opset15.add(total(whole), one))

    rest = opset15.subtract(one, small)
    foreground = opset15.convert(opset15.greater(matte, number(FOREGROUND)), "f32")
    uncertainty = opset15.subtract(one, opset15.abs(opset15.subtract(opset15.multiply(two, matte), one)))
    inside, outside = ratio(opset15.multiply(context, small), small), ratio(opset15.multiply(context, rest), rest)
    return concat(inside, outside, mean(matte), mean(uncertainty), ratio(opset15.multiply(matte, foreground), matte))


def mean_pool(x: Node, stride: int) -> Node:
    """Mean of square cells."""
    return opset15.avg_pool(x, [stride, stride], [0, 0], [0, 0], [stride, stride], False, "floor")


def refiner_graph(weights: Weights, encoder: Weights, side: int) -> ov.Model:
    """Build the graph of the refiner.

    Parameters
    ----------
    weights : mapping of str to float32 array
        See ``rmbg.networks.refiner_spec.read_weights``.
    encoder : mapping of str to float32 array
        Those of the built-in network.
    side : int
        Of the input, a multiple of 32.

    Returns
    -------
    ov.Model
        From a picture in [0, 1], float32 (1, 3, side, side), and its coarse matte, float32 (1, 1, side, side), to logits,
        float32 (1, 1, side, side).
    """
    reset_constants()
    rgb = opset15.parameter([1, 3, side, side], np.float32, name="image")
    coarse = opset15.parameter([1, 1, side, side], np.float32, name="matte")
    planes = hint_planes(rgb, coarse, side)
    mean, std = (opset15.constant(np.array(values, np.float32).reshape(1, 3, 1, 1)) for values in (MEAN, STD))
    half, quarter, eighth, sixteenth, x = encode(encoder, opset15.divide(opset15.subtract(rgb, mean), std))
    steps = (("merge16", sixteenth), ("merge8", eighth), ("merge4", quarter), ("merge2", half))
    for level, (name, skip) in enumerate(steps):
        x = merge(weights, name, x, skip, conv(weights, f"hints.{level}", mean_pool(planes, 16 >> level)))
    fine = opset15.space_to_depth(concat(opset15.subtract(rgb, number(0.5)), planes), "depth_first", 2)
    detail = opset15.relu(conv(weights, "detail.0", concat(x, fine)))
    detail = opset15.relu(conv(weights, "detail.2", detail))
    detail = opset15.depth_to_space(conv(weights, "detail.4", detail), "depth_first", 2)
    decoded = resize(conv(weights, "matte", x), (side, side), "half_pixel")
    certain = opset15.clamp(coarse, LOGIT_EPSILON, 1 - LOGIT_EPSILON)
    given = opset15.clamp(opset15.log(opset15.divide(certain, opset15.subtract(number(1), certain))), -MAX_LOGIT, MAX_LOGIT)
    own, other = (opset15.multiply(x, number(float(w))) for x, w in zip((given, decoded), weights["balance"], strict=True))
    model = ov.Model([opset15.add(opset15.add(own, other), detail)], [rgb, coarse], "refiner")
    reset_constants()
    return model


def hint_planes(rgb: Node, coarse: Node, side: int) -> Node:
    """As `rmbg.networks.refiner.hint_planes`."""
    one, two = number(1), number(2)
    cells, alpha = mean_pool(rgb, CELL), mean_pool(coarse, CELL)
    margin = [WINDOW // 2, WINDOW // 2]
    distances = []
    for share in (alpha, opset15.subtract(one, alpha)):
        certain = opset15.clamp(opset15.divide(opset15.subtract(share, number(0.65)), number(0.3)), 0.0, 1.0)
        weight = opset15.add(certain, number(1e-4))
        both = concat(opset15.multiply(cells, weight), weight)
        sums = opset15.avg_pool(both, [1, 1], margin, margin, [WINDOW, WINDOW], False, "floor")
        colors, weights = opset15.split(sums, constant(1), 4).outputs()[:3], opset15.split(sums, constant(1), 4).output(3)
        mean = resize(opset15.divide(concat(*colors), weights), (side, side), "half_pixel")
        square = opset15.power(opset15.subtract(rgb, mean), two)
        distances.append(opset15.sqrt(opset15.reduce_mean(square, constant([1]), keep_dims=True)))
    inside, outside = distances
    total = opset15.add(opset15.add(outside, inside), number(0.03))
    ratio = opset15.divide(opset15.subtract(outside, inside), total)
    signed = opset15.subtract(opset15.multiply(two, coarse), one)
    uncertainty = opset15.subtract(one, opset15.abs(signed))
    return concat(signed, uncertainty, ratio, opset15.multiply(two, inside), opset15.multiply(two, outside))


def number(value: float) -> Node:
    """Constant of one float32 number."""
    return constant(value, np.float32)
