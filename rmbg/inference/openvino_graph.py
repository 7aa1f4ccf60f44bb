"""OpenVINO graphs of IS-Net, U2-Net and BiRefNet, built operation by operation.

A general converter traces the network, which takes minutes for BiRefNet. Building the graph directly takes seconds, gives
static shapes throughout, and uses OpenVINO's deformable convolution. The functions mirror ``rmbg.networks``; tests compare the
outputs of both.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rmbg.inference.openvino_import import opset8, opset15, ov
from rmbg.inference.openvino_inspyrenet import inspyrenet
from rmbg.inference.openvino_mvanet import mvanet
from rmbg.inference.openvino_ops import (
    Node,
    concat,
    constant,
    conv,
    convolve,
    halve,
    reset_constants,
    reshape,
    resize,
    size_of,
    submodule,
    transpose,
)
from rmbg.inference.openvino_swin import swin
from rmbg.networks.birefnet import BiRefNet, DeformablePyramid
from rmbg.networks.inspyrenet import InSPyReNet
from rmbg.networks.isnet import ISNet, ResidualU
from rmbg.networks.mvanet import MVANet
from rmbg.networks.u2net import U2Net


def build_graph(network: torch.nn.Module, height: int, width: int | None = None) -> ov.Model:
    """Build the graph of a network with folded batch norms.

    Parameters
    ----------
    network : ISNet, U2Net, InSPyReNet, MVANet or BiRefNet
    height, width : int
        Of the input; square if there is no width.

    Returns
    -------
    ov.Model
        From a normalized image, float32 (1, 3, height, width), to a mask, float32 (1, 1, height, width) in [0, 1].
    """
    reset_constants()
    image = opset15.parameter([1, 3, height, width or height], np.float32, name="image")
    if isinstance(network, ISNet):
        logits = isnet(network, image)
    elif isinstance(network, U2Net):
        logits = u2net(network, image)
    elif isinstance(network, InSPyReNet):
        logits = inspyrenet(network, image)
    elif isinstance(network, MVANet):
        logits = mvanet(network, image)
    else:
        assert isinstance(network, BiRefNet)
        logits = birefnet(network, image)
    model = ov.Model([opset15.sigmoid(logits)], [image], "mask")
    reset_constants()
    return model


def isnet(network: ISNet, image: Node) -> Node:
    """As `rmbg.networks.isnet.ISNet`."""
    maps = u_shape(network, conv(image, network.conv_in))
    return resize(conv(maps[0], network.side1), size_of(image), "half_pixel")


def u2net(network: U2Net, image: Node) -> Node:
    """As `rmbg.networks.u2net.U2Net`."""
    sides = [conv(x, submodule(network, f"side{level}")) for level, x in enumerate(u_shape(network, image), 1)]
    logits = conv(concat(*(resize(side, size_of(image), "half_pixel") for side in sides)), network.outconv)
    if network.classes == 1:
        return logits
    background, *others = opset15.split(logits, constant(1), network.classes).outputs()
    odds = [opset15.exp(opset15.subtract(other, background)) for other in others]
    return opset15.log(opset15.reduce_sum(concat(*odds), constant([1]), keep_dims=True))


def u_shape(network: torch.nn.Module, x: Node) -> list[Node]:
    """As `rmbg.networks.isnet.u_shape`."""
    skips = []
    for level in range(1, 7):
        x = residual_u(submodule(network, f"stage{level}"), halve(x) if level > 1 else x)
        skips.append(x)
    maps = [skips.pop()]
    for level in range(5, 0, -1):
        skip = skips.pop()
        x = residual_u(submodule(network, f"stage{level}d"), concat(resize(maps[0], size_of(skip), "half_pixel"), skip))
        maps.insert(0, x)
    return maps


def residual_u(stage: ResidualU, x: Node) -> Node:
    """As `rmbg.networks.isnet.ResidualU`."""

    def block(name: str, value: Node) -> Node:
        return opset15.relu(conv(value, submodule(stage, f"{name}.conv_s1")))

    entry = block("rebnconvin", x)
    skips = []
    x = entry
    for level in range(1, stage.depth + 1):
        if not stage.flat and 1 < level < stage.depth:
            x = halve(x)
        x = block(f"rebnconv{level}", x)
        skips.append(x)
    x = skips.pop()
    for level in range(stage.depth - 1, 0, -1):
        skip = skips.pop()
        x = block(f"rebnconv{level}d", concat(resize(x, size_of(skip), "half_pixel"), skip))
    return opset15.add(x, entry)


def birefnet(network: BiRefNet, image: Node) -> Node:
    """As `rmbg.networks.birefnet.BiRefNet`."""
    height, width = size_of(image)
    half = resize(image, (height // 2, width // 2))
    pairs = zip(swin(network.bb, image), swin(network.bb, half), strict=True)
    x1, x2, x3, x4 = (concat(x, resize(y, size_of(x))) for x, y in pairs)
    x = concat(*(resize(x, size_of(x4)) for x in (x1, x2, x3)), x4)
    x = decoder_block(submodule(network, "squeeze_module.0"), x)
    decoder: Any = network.decoder
    for level, skip in ((4, x3), (3, x2), (2, x1)):
        x = decoder_block(submodule(decoder, f"decoder_block{level}"), with_patches(decoder, level + 1, x, image))
        gradient = opset15.relu(conv(x, submodule(decoder, f"gdt_convs_{level}.0")))
        x = opset15.multiply(x, opset15.sigmoid(conv(gradient, submodule(decoder, f"gdt_convs_attn_{level}.0"))))
        x = opset15.add(resize(x, size_of(skip)), conv(skip, submodule(decoder, f"lateral_block{level}.conv")))
    return last_layers(decoder, with_patches(decoder, 2, x, image), image)


def last_layers(decoder: Any, x: Node, image: Node) -> Node:
    """As `rmbg.networks.birefnet.Decoder.project`, with the last layer at 1/4 of the size merged as well."""
    block, detail, last = decoder.decoder_block1, decoder.ipt_blk1, decoder.conv_out1[0]
    x = pyramid(block.dec_att, opset15.relu(conv(x, block.conv_in)))
    channels = block.conv_out.out_channels
    coarse, fine = last.weight[:, :channels, 0, 0], last.weight[:, channels:, 0, 0]
    bias = coarse @ block.conv_out.bias + fine @ detail.conv_out.bias + last.bias
    x = convolve(x, torch.tensordot(coarse, block.conv_out.weight, 1), bias, padding=1)
    y = convolve(conv(image, detail.conv1), torch.tensordot(fine, detail.conv_out.weight, 1), None, padding=1)
    return opset15.add(resize(x, size_of(image)), y)


def with_patches(decoder: Any, level: int, x: Node, image: Node) -> Node:
    """As `rmbg.networks.birefnet.Decoder.with_patches`."""
    height, width = size_of(x)
    rows, columns = size_of(image)[0] // height, size_of(image)[1] // width
    grid = reshape(image, 3, rows, height, columns, width)
    axes = (3, 1, 0, 2, 4) if decoder.patch_order == "columns" else (0, 1, 3, 2, 4)
    patches = reshape(transpose(grid, *axes), 1, 3 * rows * columns, height, width)
    block = submodule(decoder, f"ipt_blk{level}")
    return concat(x, conv(conv(patches, block.conv1), block.conv_out))


def decoder_block(block: Any, x: Node) -> Node:
    """As `rmbg.networks.birefnet.DecoderBlock`."""
    return conv(pyramid(block.dec_att, opset15.relu(conv(x, block.conv_in))), block.conv_out)


def pyramid(module: DeformablePyramid, x: Node) -> Node:
    """As `rmbg.networks.birefnet.DeformablePyramid`."""
    mean = opset15.reduce_mean(x, constant([2, 3]), keep_dims=True)
    mean = opset15.relu(conv(mean, submodule(module, "global_avg_pool.1")))
    branches = [deformable(submodule(block, "atrous_conv"), x) for block in (module.aspp1, *module.aspp_deforms)]
    mean = opset15.broadcast(mean, constant(list(branches[0].get_output_shape(0))))
    return opset15.relu(conv(concat(*branches, mean), module.conv1))


def deformable(module: Any, x: Node) -> Node:
    """Deformable convolution with its ReLU."""
    modulation = opset15.multiply(opset15.sigmoid(conv(x, module.modulator_conv)), constant(2, np.float32))
    pad = [module.regular_conv.padding[0]] * 2
    y = opset8.deformable_convolution(
        x,
        conv(x, module.offset_conv),
        constant(module.regular_conv.weight),
        strides=[1, 1],
        pads_begin=pad,
        pads_end=pad,
        dilations=[1, 1],
        mask=modulation,
        bilinear_interpolation_pad=True,
    )
    return opset15.relu(opset15.add(y, constant(module.regular_conv.bias.view(1, -1, 1, 1))))
