"""Conversion between trained networks with batch norms and the fused weights for inference, and means of weights.

python -m train.weights FIRST SECOND OUT    writes the mean of two files of weights, of which one was trained from the other
"""

import argparse
import copy
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rmbg.networks.builtin import BuiltinNet, ConvNorm


@torch.no_grad()
def unfuse(net: BuiltinNet, fused: BuiltinNet, x: Tensor) -> None:
    """Copy the weights of a fused network into one with batch norms, which are the identity on the activations of ``x``.

    Scale and shift of each norm are the deviation and mean of its channels on ``x``. Normalization by the statistics of a
    batch then changes the activations only as far as the batch differs from ``x``.
    """
    net.load_state_dict(fused.state_dict(), strict=False)
    norms = {name: module for name, module in net.named_modules() if isinstance(module, ConvNorm)}

    def initialize(name: str, conv: nn.Conv2d, activations: Tensor) -> None:
        target, bias = norms[name], conv.bias
        assert isinstance(target.norm, nn.BatchNorm2d) and bias is not None
        deviation, mean = torch.std_mean(activations, (0, 2, 3))
        deviation = deviation.clamp(min=1e-3)
        target.conv.weight.copy_(conv.weight / deviation.view(-1, 1, 1, 1))
        target.norm.weight.copy_(deviation)
        target.norm.bias.copy_(mean)
        target.norm.running_mean.copy_((mean - bias) / deviation)
        target.norm.running_var.fill_(1)

    for name, module in fused.named_modules():
        if isinstance(module, ConvNorm):
            module.conv.register_forward_hook(lambda conv, _, y, name=name: initialize(name, conv, y))
    fused(x)


def export(net: BuiltinNet, path: Path) -> None:
    """Write the weights for inference, in half precision with folded batch norms."""
    fused = copy.deepcopy(net).cpu()
    if isinstance(fused.stem.norm, nn.BatchNorm2d):
        fused.fuse()
    save_half(fused.state_dict(), path)


def save_half(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Write tensors in half precision, atomically."""
    save_file({name: tensor.half().cpu().contiguous() for name, tensor in tensors.items()}, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def mean(first: Path, second: Path, path: Path) -> None:
    """Write the mean of two files of weights (Wortsman et al., "Model soups", ICML 2022)."""
    others = load_file(second)
    save_half({name: (tensor.float() + others[name].float()) / 2 for name, tensor in load_file(first).items()}, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("first", "second", "out"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    mean(arguments.first, arguments.second, arguments.out)


if __name__ == "__main__":
    main()
