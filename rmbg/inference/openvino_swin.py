"""OpenVINO graph of the Swin transformer, the backbone of several networks."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rmbg.inference.openvino_import import opset15
from rmbg.inference.openvino_ops import Node, constant, conv, linear, normalize, reshape, submodule, transpose
from rmbg.networks.birefnet import Stage, Swin, shifted_window_mask


def swin(network: Swin, image: Node) -> list[Node]:
    """As `rmbg.networks.birefnet.Swin`."""
    return swin_stages(network, patch_embed(network, image))


def patch_embed(network: Swin, image: Node) -> Node:
    """As `rmbg.networks.birefnet.PatchEmbed`: (N, H, W, C)."""
    return normalize(transpose(conv(image, network.patch_embed.proj), 0, 2, 3, 1), network.patch_embed.norm)


def swin_stages(network: Swin, x: Node) -> list[Node]:
    """As `rmbg.networks.birefnet.Swin.stages`; maps between the blocks have the layout (N, H, W, C)."""
    features = []
    for level, stage in enumerate(network.layers):
        assert isinstance(stage, Stage)
        batch, height, width, _ = x.get_output_shape(0)
        mask = constant(attention_limits(height, width, stage.window).repeat(batch, 1, 1, 1))
        for block in stage.blocks:
            x = swin_block(block, x, mask)
        features.append(transpose(normalize(x, submodule(network, f"norm{level}")), 0, 3, 1, 2))
        if stage.downsample is not None:
            corners = [subsample(x, down, right) for right in (0, 1) for down in (0, 1)]
            merged = normalize(opset15.concat(corners, 3), stage.downsample.norm)
            x = linear(merged, stage.downsample.reduction.weight, None)
    return features


def swin_block(block: Any, x: Node, mask: Node) -> Node:
    """As `rmbg.networks.birefnet.Block`."""
    batch, height, width, channels = x.get_output_shape(0)
    window = block.window
    rows, columns = -(-height // window), -(-width // window)
    y = normalize(x, block.norm1)
    if (rows * window, columns * window) != (height, width):
        end = constant([0, rows * window - height, columns * window - width, 0])
        y = opset15.pad(y, constant([0, 0, 0, 0]), end, "constant", constant(0, np.float32))
    if block.shift:
        y = opset15.roll(y, constant([-block.shift] * 2), constant([1, 2]))
    y = transpose(reshape(y, batch * rows, window, columns, window, channels), 0, 2, 1, 3, 4)
    y = attention(block.attn, reshape(y, batch * rows * columns, window * window, channels), mask if block.shift else None)
    y = transpose(reshape(y, batch * rows, columns, window, window, channels), 0, 2, 1, 3, 4)
    y = reshape(y, batch, rows * window, columns * window, channels)
    if block.shift:
        y = opset15.roll(y, constant([block.shift] * 2), constant([1, 2]))
    if (rows * window, columns * window) != (height, width):
        y = opset15.slice(y, constant([0, 0]), constant([height, width]), constant([1, 1]), constant([1, 2]))
    x = opset15.add(x, y)
    fc1, _, fc2 = block.mlp.children()
    y = opset15.gelu(linear(normalize(x, block.norm2), fc1.weight, fc1.bias), "erf")
    return opset15.add(x, linear(y, fc2.weight, fc2.bias))


def attention(module: Any, windows: Node, mask: Node | None) -> Node:
    """As `rmbg.networks.birefnet.WindowAttention`."""
    count, tokens, channels = windows.get_output_shape(0)
    width = channels // module.heads
    weights, biases = module.qkv.weight.chunk(3), module.qkv.bias.chunk(3)

    def heads(index: int, *order: int) -> Node:
        y = linear(windows, weights[index], biases[index])
        return transpose(reshape(y, count, tokens, module.heads, width), *order)

    query = opset15.multiply(heads(0, 0, 2, 1, 3), constant(width**-0.5, np.float32))
    logits = opset15.matmul(query, heads(1, 0, 2, 3, 1), False, False)
    logits = opset15.add(logits, constant(module.bias()[None]))
    if mask is not None:
        logits = opset15.minimum(logits, mask)
    y = opset15.matmul(opset15.softmax(logits, -1), heads(2, 0, 2, 1, 3), False, False)
    y = reshape(transpose(y, 0, 2, 1, 3), count, tokens, channels)
    return linear(y, module.proj.weight, module.proj.bias)


def attention_limits(height: int, width: int, window: int) -> torch.Tensor:
    """Upper limits of the attention logits: float32 (windows, 1, tokens, tokens), -100 where attention is suppressed.

    The published networks add -100 instead; after the softmax both give zero. OpenVINO would fuse two additions, of the
    position bias and of the mask, into one constant for each head of each window: more than a gigabyte in total.
    """
    mask = shifted_window_mask(height, width, window)[:, None]
    return torch.where(mask < 0, mask, torch.finfo(torch.float32).max)


def subsample(x: Node, down: int, right: int) -> Node:
    """Every second row from `down` and column from `right` of (N, H, W, C), padded with zeros to an even size."""
    _, height, width, _ = x.get_output_shape(0)
    end = constant([0, height % 2, width % 2, 0])
    if height % 2 or width % 2:
        x = opset15.pad(x, constant([0, 0, 0, 0]), end, "constant", constant(0, np.float32))
    stop = constant([height + 1, width + 1])
    return opset15.slice(x, constant([down, right]), stop, constant([2, 2]), constant([1, 2]))
