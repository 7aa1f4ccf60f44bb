"""OpenVINO graph of MVANet and BEN2, built operation by operation as those in ``openvino_graph``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from rmbg.inference.openvino_import import opset8, opset15
from rmbg.inference.openvino_ops import (
    Node,
    concat,
    constant,
    conv,
    linear,
    normalize,
    reshape,
    resize,
    size_of,
    submodule,
    transpose,
)
from rmbg.inference.openvino_swin import patch_embed, swin_stages
from rmbg.networks.mvanet import (
    CHANNELS,
    LOCALIZATION_RATIOS,
    REFINEMENT_RATIOS,
    CrossAttention,
    Localization,
    MVANet,
    Refinement,
    pooled_sizes,
    positions,
)


def mvanet(network: MVANet, image: Node) -> Node:
    """As `rmbg.networks.mvanet.MVANet`, for one image."""
    height, width = size_of(image)
    half = resize(image, (height // 2, width // 2), "half_pixel")
    embedded = patch_embed(network.backbone, opset15.concat([split(image), half], 0))
    features = [transpose(embedded, 0, 3, 1, 2), *swin_stages(network.backbone, embedded)]
    x1, x2, x3, x4, x5 = (layers(submodule(network, f"output{level}"), x) for level, x in enumerate(features, 1))
    x = localization(network.multifieldcrossatt, x5)
    for level, skip in ((4, x4), (3, x3), (2, x2), (1, x1)):
        x = refinement(submodule(network, f"dec_blk{level}"), opset15.add(skip, resize(x, size_of(skip), "half_pixel")))
        x = layers(submodule(network, f"conv{level}"), x)
    quarters, whole = separate(x)
    x = join(quarters)
    x = layers(network.insmask_head, opset15.add(x, resize(whole, size_of(x), "half_pixel")))
    detail = layers(network.shallow, image)
    for upsampling in (network.upsample1, network.upsample2):
        x = opset15.add(x, resize(detail, size_of(x), "half_pixel"))
        x = layers(upsampling, double(x))
    return layers(network.output, x)


def layers(modules: nn.Sequential, x: Node) -> Node:
    """Convolutions with folded batch norms, instance norms and activations in sequence."""
    for module in modules:
        match module:
            case nn.Conv2d():
                x = conv(x, module)
            case nn.InstanceNorm2d():
                x = opset15.mvn(x, constant([2, 3]), True, module.eps, "inside_sqrt")
            case nn.PReLU():
                x = opset15.prelu(x, constant(module.weight))
            case nn.GELU():
                x = opset15.gelu(x, "erf")
    return x


def localization(module: Localization, views: Node) -> Node:
    """As `rmbg.networks.mvanet.Localization`."""
    quarters, whole = separate(views)
    height, width = size_of(views)
    sizes = pooled_sizes(height, width, LOCALIZATION_RATIOS)
    pools = pool(join(quarters), sizes)
    x = tokens(whole)
    query = opset15.add(x, constant(positions(height, width)))
    key = opset15.add(pools, constant(torch.cat([positions(*size) for size in sizes])))
    attended = attend(list(module.attention)[:1], query, key, pools)
    whole = maps(update(module, x, attended, module.linear1, module.linear2), height, width)
    x = attend_by_quarter(module, tokens(quarters), tokens(split(whole)))
    return opset15.concat([maps(x, height, width), whole], 0)


def refinement(module: Refinement, views: Node) -> Node:
    """As `rmbg.networks.mvanet.Refinement`."""
    quarters, whole = separate(views)
    height, width = size_of(views)
    quarters = opset15.multiply(quarters, split(double(opset15.sigmoid(conv(whole, module.sal_conv)))))
    keys = pool(split(whole), pooled_sizes(height, width, REFINEMENT_RATIOS))
    quarters = maps(attend_by_quarter(module, tokens(quarters), keys), height, width)
    stop = constant([2 * height, 2 * width])
    halved = opset15.slice(join(quarters), constant([0, 0]), stop, constant([2, 2]), constant([2, 3]))
    return opset15.concat([quarters, opset15.add(whole, halved)], 0)


def attend_by_quarter(module: CrossAttention, x: Node, keys: Node) -> Node:
    """As `rmbg.networks.mvanet.CrossAttention.attend_by_quarter`."""
    return update(module, x, attend(list(module.attention)[-4:], x, keys, keys), module.linear3, module.linear4)


def update(module: CrossAttention, x: Node, attended: Node, first: nn.Linear, second: nn.Linear) -> Node:
    """As `rmbg.networks.mvanet.CrossAttention.update`."""
    x = normalize(opset15.add(x, attended), module.norm1)
    y = linear(x, first.weight, first.bias)
    y = opset15.relu(y) if isinstance(module.activation, nn.ReLU) else opset15.gelu(y, "erf")
    return normalize(opset15.add(x, linear(y, second.weight, second.bias)), module.norm2)


def attend(attentions: Sequence[Any], query: Node, key: Node, value: Node) -> Node:
    """Attention with one head, and with weights of its own for each item of the batch (N, tokens, C)."""

    def project(x: Node, weights: Sequence[torch.Tensor], biases: Sequence[torch.Tensor]) -> Node:
        return linear(x, torch.stack(list(weights)), torch.stack(list(biases))[:, None])

    projected = (
        project(x, [a.in_proj_weight.chunk(3)[i] for a in attentions], [a.in_proj_bias.chunk(3)[i] for a in attentions])
        for i, x in enumerate((query, key, value))
    )
    q, k, v = (opset15.unsqueeze(x, constant([1])) for x in projected)
    y = opset15.squeeze(opset15.scaled_dot_product_attention(q, k, v), constant([1]))
    return project(y, [a.out_proj.weight for a in attentions], [a.out_proj.bias for a in attentions])


def split(image: Node) -> Node:
    """As `rmbg.networks.mvanet.split`, for one image."""
    _, channels, height, width = image.get_output_shape(0)
    y = transpose(reshape(image, channels, 2, height // 2, 2, width // 2), 1, 3, 0, 2, 4)
    return reshape(y, 4, channels, height // 2, width // 2)


def join(quarters: Node) -> Node:
    """As `rmbg.networks.mvanet.join`, for one image."""
    _, channels, height, width = quarters.get_output_shape(0)
    y = transpose(reshape(quarters, 2, 2, channels, height, width), 2, 0, 3, 1, 4)
    return reshape(y, 1, channels, 2 * height, 2 * width)


def separate(views: Node) -> tuple[Node, Node]:
    """As `rmbg.networks.mvanet.separate`, for one image."""
    quarters, whole = (opset15.slice(views, constant([i]), constant([j]), constant([1])) for i, j in ((0, 4), (4, 5)))
    return quarters, whole


def double(x: Node) -> Node:
    """As `rmbg.networks.mvanet.double`."""
    height, width = size_of(x)
    target = constant([2 * height, 2 * width])
    return opset15.interpolate(
        x,
        target,
        "nearest",
        "sizes",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
        axes=constant([2, 3]),
    )


def tokens(x: Node) -> Node:
    """As `rmbg.networks.mvanet.tokens`."""
    height, width = size_of(x)
    return transpose(reshape(x, -1, CHANNELS, height * width), 0, 2, 1)


def maps(x: Node, height: int, width: int) -> Node:
    """Inverse of `tokens`."""
    return reshape(transpose(x, 0, 2, 1), -1, CHANNELS, height, width)


def pool(x: Node, sizes: Sequence[tuple[int, int]]) -> Node:
    """As `rmbg.networks.mvanet.pool`."""
    return concat(*(tokens(opset8.adaptive_avg_pool(x, constant(list(size)))) for size in sizes if all(size)))
