"""From a checkpoint's tensors to a network that is ready to run."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

# The convolution that each batch norm follows, by the names that the checkpoints give to both.
NORMALISED = {
    "bn_s1": "conv_s1",
    "bn_in": "conv_in",
    "bn_out": "conv_out",
    "bn1": "conv1",
    "bn": "atrous_conv.regular_conv",
}
SHOWN = 3


class WrongTensorsError(ValueError):
    """The tensors are not those of this network; the message says which."""


def load(network: nn.Module, tensors: Mapping[str, Tensor], unused: tuple[str, ...]) -> None:
    """Give `network` its weights; every tensor must be one of the network's, or named as unused.

    Parameters
    ----------
    network : nn.Module
        May be laid out on the "meta" device: the tensors take their places, they are not copied. Half-precision tensors
        are widened to the network's own precision.
    tensors : mapping of str to Tensor
        A whole checkpoint.
    unused : tuple of str
        Parts of the names of tensors that the checkpoint may hold and the network does not need.

    Raises
    ------
    WrongTensorsError
        If a tensor is missing, unknown, of another shape, or not of numbers with a fraction.
    """
    counter = "num_batches_tracked"  # of no use after training, and absent from some checkpoints
    places = network.state_dict()
    wanted = {name: value for name, value in places.items() if not name.endswith(counter)}
    given = {name: value for name, value in tensors.items() if not name.endswith(counter)}
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted and not any(part in name for part in unused)]
    if missing and not unknown and len(missing) < len(wanted) / 2:
        raise WrongTensorsError(f"Tensors are missing from it: {shown(missing)}.")
    if missing or unknown:
        faults = [f"{word} {shown(names)}" for word, names in (("without", missing), ("with", unknown)) if names]
        raise WrongTensorsError(f"These are the weights of another network: {'; '.join(faults)}.")
    for name, value in wanted.items():
        if given[name].shape != value.shape or not given[name].is_floating_point():
            found = f"{tuple(given[name].shape)} {str(given[name].dtype).removeprefix('torch.')}"
            raise WrongTensorsError(
                f"These are the weights of another network: {name} is {found}, and {tuple(value.shape)} is needed."
            )
    ready = {name: given[name].to(value.dtype) for name, value in wanted.items()}
    zeros = {name: torch.zeros((), dtype=value.dtype) for name, value in places.items() if name.endswith(counter)}
    network.load_state_dict(ready | zeros, assign=True)


def shown(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def fold_batch_norms(network: nn.Module) -> None:
    """Move each batch norm into the convolution before it: the same function with one pass over the map less."""
    for parent in list(network.modules()):
        previous: nn.Module | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                conv = previous if isinstance(parent, nn.Sequential) else parent.get_submodule(NORMALISED[name])
                assert isinstance(conv, nn.Conv2d) and child.running_mean is not None and child.running_var is not None
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, child.running_mean, child.running_var, child.eps, child.weight, child.bias
                )
                setattr(parent, name, nn.Identity())
            previous = child
