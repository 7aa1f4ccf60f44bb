"""Networks on torch: graphics card, Apple GPU or processor."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rmbg.engines import weights
from rmbg.engines.models import Model, build
from rmbg.engines.plan import Plan
from rmbg.engines.weights import Progress, Weights
from rmbg.errors import ModelError
from rmbg.networks.load import WrongTensorsError, fold_batch_norms, load

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def network(model: Model, file: Weights) -> torch.nn.Module:
    """The model's network with its weights, batch norms folded, in single precision on the processor.

    Raises
    ------
    ModelError
        If the file holds something else.
    """
    module, unused = build(model)
    try:
        load(module, weights.read(file), unused)
    except WrongTensorsError as error:
        raise ModelError(f"{file.path} does not fit {model.id}. {error}") from None
    fold_batch_norms(module)
    return module.requires_grad_(False)


class TorchRunner:
    """A network on torch."""

    def __init__(self, model: Model, file: Weights, plan: Plan, progress: Progress) -> None:
        progress(None, f"Loading {model.id} on {plan.device}")
        self.plan = plan
        module: Any = network(model, file)
        self.module = module.to(plan.device, DTYPES[plan.precision], memory_format=torch.channels_last)
        self.memory = sum(value.nbytes for value in self.module.state_dict().values())

    def run(self, images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            x = torch.from_numpy(images).to(self.plan.device, DTYPES[self.plan.precision])
            return self.module(x.contiguous(memory_format=torch.channels_last)).float().sigmoid()[:, 0].cpu().numpy()
