"""OpenVINO graph of InSPyReNet, built operation by operation. The functions mirror ``rmbg.networks.inspyrenet``."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmbg.inference.openvino_import import opset15
from rmbg.inference.openvino_ops import Node, concat, constant, conv, convolve, reshape, resize, size_of, submodule, transpose
from rmbg.inference.openvino_swin import patch_embed, swin_stages
from rmbg.networks.inspyrenet import CHANNELS, ContextAttention, ContextEncoder, InSPyReNet, gaussian


def inspyrenet(network: InSPyReNet, image: Node) -> Node:
    """As `rmbg.networks.inspyrenet.InSPyReNet`."""
    height, width = size_of(image)
    tokens = patch_embed(network.backbone, image)
    features = [transpose(tokens, 0, 3, 1, 2), *swin_stages(network.backbone, tokens)]
    x1, x2, x3, x4, x5 = (context_encoder(submodule(network, f"context{level}"), x) for level, x in enumerate(features, 1))
    x, mask = decoder(network.decoder, x3, x4, x5)
    x, laplacian = context_attention(network.attention2, concat(x2, resize_like(x, x2)), mask, None)
    mask = opset15.add(expand(mask), laplacian)
    x = concat(*(resize(y, (height // 2, width // 2), "half_pixel") for y in (x1, x)))
    x, laplacian = context_attention(network.attention1, x, mask, laplacian)
    mask = opset15.add(expand(mask), laplacian)
    _, laplacian = context_attention(network.attention0, resize_like(x, image), mask, laplacian)
    return opset15.add(expand(mask), laplacian)


def axial_attention(module: Any, x: Node, length: int) -> Node:
    """As `rmbg.networks.inspyrenet.AxialAttention`."""
    query, key, value = (
        reshape(conv(x, layer.conv), 1, -1, length) for layer in (module.query_conv, module.key_conv, module.value_conv)
    )
    weights = opset15.softmax(opset15.matmul(query, key, True, False), -1)
    y = reshape(opset15.matmul(value, weights, False, True), *x.get_output_shape(0))
    return opset15.add(opset15.multiply(y, constant(module.gamma)), x)


def attend(module: Any, x: Node) -> Node:
    """As `rmbg.networks.inspyrenet.AxialPair.attend`."""
    height, width = size_of(x)
    return opset15.add(axial_attention(module.Hattn, x, height), axial_attention(module.Wattn, x, width))


def context_encoder(module: ContextEncoder, x: Node) -> Node:
    """As `rmbg.networks.inspyrenet.ContextEncoder`."""
    branches = [conv(x, submodule(module, "branch0.conv"))]
    for number in (1, 2, 3):
        branch, y = submodule(module, f"branch{number}"), x
        for layer in (branch.conv0, branch.conv1, branch.conv2):
            y = conv(y, layer.conv)
        branches.append(conv(attend(branch, y), branch.conv3.conv))
    y = conv(concat(*branches), submodule(module, "conv_cat.conv"))
    return opset15.relu(opset15.add(y, conv(x, submodule(module, "conv_res.conv"))))


def decoder(module: Any, x3: Node, x4: Node, x5: Node) -> tuple[Node, Node]:
    """As `rmbg.networks.inspyrenet.Decoder`."""
    x = conv(concat(resize(x5, size_of(x3)), resize(x4, size_of(x3)), x3), module.conv1.conv)
    x = attend(module, x)
    for layer in (module.conv2, module.conv3, module.conv4):
        x = conv(x, layer.conv)
    return x, conv(x, module.conv5.conv)


def context_attention(module: ContextAttention, x: Node, mask: Node, laplacian: Node | None) -> tuple[Node, Node]:
    """As `rmbg.networks.inspyrenet.ContextAttention`."""
    height, width = size_of(x)

    def above_and_below(y: Node, threshold: Any) -> tuple[Node, Node, Node]:
        above = opset15.subtract(opset15.sigmoid(resize_like(y, x)), constant(threshold))
        return above, opset15.clamp(above, 0.0, 1.0), opset15.clamp(opset15.negative(above), 0.0, 1.0)

    above, *regions = above_and_below(mask, module.threshold)
    regions.append(opset15.subtract(constant(module.threshold), opset15.absolute(above)))
    if laplacian is not None:
        regions += above_and_below(laplacian, module.lthreshold)[1:]
    sums = region_sums(module, x, concat(*regions))
    query, key, value = (
        reshape(two_layers(submodule(module, name), y), 1, CHANNELS, -1)
        for name, y in (("conv_query", x), ("conv_key", sums), ("conv_value", sums))
    )
    logits = opset15.multiply(opset15.matmul(query, key, True, False), constant(CHANNELS**-0.5, np.float32))
    context = reshape(opset15.matmul(value, opset15.softmax(logits, -1), False, True), 1, CHANNELS, height, width)
    x = concat(x, relu_conv(context, module.conv_out1))
    x = relu_conv(relu_conv(x, module.conv_out2), module.conv_out3)
    return x, conv(x, submodule(module, "conv_out4.conv"))


def region_sums(module: ContextAttention, x: Node, regions: Node) -> Node:
    """As `rmbg.networks.inspyrenet.ContextAttention.region_sums`."""
    size = (module.base_size, module.base_size)
    x, regions = resize(x, size, "half_pixel"), resize(regions, size, "half_pixel")
    channels, count = x.get_output_shape(0)[1], regions.get_output_shape(0)[1]
    sums = opset15.matmul(reshape(regions, 1, count, -1), reshape(x, 1, -1, channels), False, False)
    return reshape(transpose(sums, 0, 2, 1), 1, channels, count, 1)


def two_layers(module: Any, x: Node) -> Node:
    """Two convolutions with their ReLUs."""
    first, second = module
    return relu_conv(relu_conv(x, first), second)


def relu_conv(x: Node, module: Any) -> Node:
    """Convolution with its ReLU."""
    return opset15.relu(conv(x, module.conv))


def expand(x: Node) -> Node:
    """As `rmbg.networks.inspyrenet.expand`."""
    zeros = opset15.multiply(x, constant(0, np.float32))
    sparse = opset15.depth_to_space(concat(x, zeros, zeros, zeros), "depth_first", 2)
    padding = constant([0, 0, 3, 3])
    return convolve(opset15.pad(sparse, padding, padding, "reflect"), 4 * gaussian(), None)


def resize_like(x: Node, target: Node) -> Node:
    """As `rmbg.networks.isnet.resize_like`."""
    return resize(x, size_of(target), "half_pixel")
