"""ViTMatte through transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from rmbg.inference.catalog import Model
from rmbg.inference.plan import Plan, check_output
from rmbg.inference.transformers_network import load_transformers
from rmbg.inference.weights import Progress, WeightsFile
from rmbg.message import Message

#: Backbone of vitmatte-small: every third block has global attention and a convolution, the others attend within windows.
BACKBONE: dict[str, Any] = {
    "num_channels": 4,
    "image_size": 512,
    "pretrain_image_size": 224,
    "patch_size": 16,
    "hidden_size": 384,
    "num_attention_heads": 6,
    "use_absolute_position_embeddings": True,
    "use_relative_position_embeddings": True,
    "window_size": 14,
    "window_block_indices": [0, 1, 3, 4, 6, 7, 9, 10],
    "residual_block_indices": [2, 5, 8, 11],
    "out_features": ["stage12"],
}


class VitMatteRunner:
    """ViTMatte on torch, in float32: the precision of alpha matters, and the network is small."""

    def __init__(self, model: Model, file: WeightsFile, plan: Plan, progress: Progress) -> None:
        from transformers import VitMatteForImageMatting

        progress(None, Message("Loading {model} on {device}", model=model.id, device=str(plan.device)))
        network = load_transformers(VitMatteForImageMatting, config(), model, file)
        self.plan = plan
        self.network = network.to(plan.device, torch.float32)
        self.memory = sum(value.nbytes for value in self.network.state_dict().values())

    def run(self, images: np.ndarray) -> np.ndarray:
        """Alpha, float32 (N, H, W) in [0, 1], of prepared photos and trimaps, float32 (N, 4, H, W)."""
        with torch.inference_mode():
            alphas = self.network(pixel_values=torch.from_numpy(images).to(self.plan.device)).alphas
        result: np.ndarray = alphas[:, 0].float().cpu().numpy()
        check_output("vitmatte", self.plan, result)
        return result


def config() -> Any:
    """Configuration of hustvl/vitmatte-small-composition-1k."""
    from transformers import VitDetConfig, VitMatteConfig

    return VitMatteConfig(
        backbone_config=VitDetConfig(**BACKBONE),
        hidden_size=BACKBONE["hidden_size"],
        convstream_hidden_sizes=[48, 96, 192],
        fusion_hidden_sizes=[256, 128, 64, 32],
    )
