"""OpenVINO graph of the refiner, built from its weights and those of the built-in network without torch.

The functions mirror ``rmbg.networks.refiner``; tests compare the outputs of both.
"""

from __future__ import annotations

import numpy as np

from rmbg.inference.openvino_builtin import Weights, conv, encode, mean_pool, merge
from rmbg.inference.openvino_import import opset15, ov
from rmbg.inference.openvino_ops import Node, concat, constant, reset_constants, resize
from rmbg.networks.builtin_spec import MEAN, STD
from rmbg.networks.refiner_spec import CELL, LOGIT_EPSILON, MAX_LOGIT, WINDOW


def build_graph(weights: Weights, encoder: Weights, side: int) -> ov.Model:
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
