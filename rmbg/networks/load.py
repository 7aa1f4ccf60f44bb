"""Loading of a checkpoint into a network, and folding of batch norms."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

# Name of each batch norm in the checkpoints, and of the convolution before it.
CONV_BEFORE_NORM = {
    "bn_s1": "conv_s1",
    "bn_in": "conv_in",
    "bn_out": "conv_out",
    "bn1": "conv1",
    "bn": "atrous_conv.regular_conv",
}
MAX_NAMES = 3  # in an error message

#: End of the names of counters, which are used in training only, and absent from some checkpoints.
COUNTER = "num_batches_tracked"

#: Prefixes that training adds to the names of all tensors: DataParallel, torch.compile, Lightning and other wrappers.
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.")

T = TypeVar("T")


class TensorInfo(NamedTuple):
    """Shape and type of a tensor in a checkpoint."""

    shape: tuple[int, ...]
    dtype: str
    is_floating_point: bool


class WrongTensorsError(ValueError):
    """The checkpoint does not match the network; the message names the tensors."""


class NonFiniteError(ValueError):
    """A tensor holds NaN or infinity; the message names it."""


def check_finite(tensors: Mapping[str, Tensor]) -> None:
    """Raise NonFiniteError if a floating-point tensor holds NaN or infinity. One pass without copies."""
    for name, value in tensors.items():
        if value.numel() and value.is_floating_point() and not all(bound.isfinite() for bound in value.aminmax()):
            raise NonFiniteError(f"{name} holds NaN or infinite values")


def load(network: nn.Module, tensors: Mapping[str, Tensor], unused: tuple[str, ...]) -> None:
    """Load a checkpoint into `network`.

    Parameters
    ----------
    network : nn.Module
        May be on the "meta" device: tensors are assigned, not copied. Half-precision tensors are converted to the network's
        precision.
    tensors : mapping of str to Tensor
        The whole checkpoint. Every tensor must belong to the network or match `unused`.
    unused : tuple of str
        Parts of the names of tensors that are ignored.

    Raises
    ------
    WrongTensorsError
        If a tensor is missing, unknown, of another shape, or not floating point.
    NonFiniteError
        If a tensor holds NaN or infinity.
    """
    own = network.state_dict()
    described = {
        name: TensorInfo(tuple(value.shape), str(value.dtype).removeprefix("torch."), value.is_floating_point())
        for name, value in tensors.items()
    }
    check_tensors(own, described, unused)
    expected = {name: value for name, value in own.items() if not name.endswith(COUNTER)}
    check_finite({name: tensors[name] for name in expected})
    converted = {name: tensors[name].to(value.dtype) for name, value in expected.items()}
    zeros = {name: torch.zeros((), dtype=value.dtype) for name, value in own.items() if name.endswith(COUNTER)}
    network.load_state_dict(converted | zeros, assign=True)


def unwrapped(tensors: Mapping[str, T], own: Collection[str]) -> dict[str, T]:
    """Return the tensors of a checkpoint without `WRAPPERS` before all of their names, unless `own` has such names."""
    found = dict(tensors)
    while found and not any(name in own for name in found):
        wrapper = next((w for w in WRAPPERS if all(name.startswith(w) for name in found)), None)
        if wrapper is None:
            break
        found = {name.removeprefix(wrapper): value for name, value in found.items()}
    return found


def check_tensors(own: Mapping[str, Tensor], tensors: Mapping[str, TensorInfo], unused: tuple[str, ...]) -> None:
    """Raise WrongTensorsError if the tensors of a checkpoint are not those of a network.

    Parameters
    ----------
    own : mapping of str to Tensor
        State of the network.
    tensors : mapping of str to TensorInfo
        The whole checkpoint.
    unused : tuple of str
        As for `load`.
    """
    expected = {name: value for name, value in own.items() if not name.endswith(COUNTER)}
    given = {name: value for name, value in tensors.items() if not name.endswith(COUNTER)}
    missing = [name for name in expected if name not in given]
    unknown = [name for name in given if name not in expected and not any(part in name for part in unused)]
    if missing and not unknown and len(missing) < len(expected) / 2:
        raise WrongTensorsError(f"Tensors are missing from it: {_join(missing)}.")
    if missing or unknown:
        differences = [f"{word} {_join(names)}" for word, names in (("without", missing), ("with", unknown)) if names]
        raise WrongTensorsError(f"These are the weights of another network: {'; '.join(differences)}.")
    for name, value in expected.items():
        if given[name].shape != tuple(value.shape) or not given[name].is_floating_point:
            raise WrongTensorsError(
                f"These are the weights of another network: {name} is {given[name].shape} {given[name].dtype}, and "
                f"{tuple(value.shape)} is needed."
            )


def _join(names: list[str]) -> str:
    """The first `MAX_NAMES` names and the number of the others."""
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more


def fold_batch_norms(network: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, in place; saves one pass over each map."""
    for parent in list(network.modules()):
        previous: nn.Module | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                conv = previous if isinstance(parent, nn.Sequential) else parent.get_submodule(CONV_BEFORE_NORM[name])
                assert isinstance(conv, nn.Conv2d) and child.running_mean is not None and child.running_var is not None
                conv.weight, conv.bias = fuse_conv_bn_weights(
                    conv.weight, conv.bias, child.running_mean, child.running_var, child.eps, child.weight, child.bias
                )
                setattr(parent, name, nn.Identity())
            previous = child
