"""Networks on torch, on a GPU or a CPU."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rmbg.errors import ModelError
from rmbg.inference import weights
from rmbg.inference.catalog import Model, build
from rmbg.inference.engines import Plan
from rmbg.inference.weights import Progress, WeightsFile
from rmbg.networks.load import NonFiniteError, WrongTensorsError, check_finite, fold_batch_norms, load
from rmbg.runtime.messages import Message

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def load_network(model: Model, file: WeightsFile) -> torch.nn.Module:
    """Build the model's network with its weights, in float32 on the CPU, with folded batch norms.

    Raises
    ------
    ModelError
        If the file does not match the network, or holds NaN or infinity.
    """
    network, unused = build(model)
    try:
        load(network, weights.read(file), unused)
        fold_batch_norms(network)
        check_finite(network.state_dict())  # a variance below zero becomes NaN
    except WrongTensorsError as error:
        raise ModelError(f"{file.path} does not fit {model.id}. {error}") from None
    except NonFiniteError as error:
        raise damaged(model, file, error) from None
    return network.requires_grad_(False)


def damaged(model: Model, file: WeightsFile, error: NonFiniteError) -> ModelError:
    """Error for weights that hold NaN or infinity."""
    return ModelError(f"{file.path} cannot be used for {model.id}: {error}. Delete it and download it again.")


class TorchRunner:
    """A network on torch."""

    def __init__(self, model: Model, file: WeightsFile, plan: Plan, progress: Progress) -> None:
        progress(None, Message("Loading {model} on {device}", model=model.id, device=str(plan.device)))
        self.plan = plan
        network: Any = load_network(model, file)
        self.network = network.to(plan.device, DTYPES[plan.precision], memory_format=torch.channels_last)
        self.memory = sum(value.nbytes for value in self.network.state_dict().values())

    def run(self, images: np.ndarray) -> np.ndarray:
        """Compute masks, float32 (N, size, size) in [0, 1], of normalized images, float32 (N, 3, size, size)."""
        with torch.inference_mode():
            x = torch.from_numpy(images).to(self.plan.device, DTYPES[self.plan.precision])
            return self.network(x.contiguous(memory_format=torch.channels_last)).float().sigmoid()[:, 0].cpu().numpy()
