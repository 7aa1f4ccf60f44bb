"""SAM 2 through transformers: an image is encoded once and can then be prompted repeatedly.

Nikhila Ravi and others: "SAM 2: Segment Anything in Images and Videos", arXiv 2408.00714, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rmbg.inference.catalog import Model
from rmbg.inference.plan import Plan, check_output
from rmbg.inference.torch_runner import DTYPES
from rmbg.inference.transformers_network import load_transformers
from rmbg.inference.weights import Progress, WeightsFile
from rmbg.message import Message

#: Blocks of the "small" image encoder. All other hyperparameters are the defaults of transformers, those of "tiny".
SMALL_ENCODER = {"blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]}

#: Point prompts in one batch of the mask decoder.
POINTS_PER_BATCH = 64


@dataclass(frozen=True, eq=False)
class Masks:
    """Masks predicted for prompts.

    Attributes
    ----------
    logits : float32 array (prompts, masks, h, w)
        Positive inside the object; h and w are a quarter of the network's input size.
    quality : float32 array (prompts, masks)
        Predicted IoU of each mask in [0, 1].
    """

    logits: np.ndarray
    quality: np.ndarray


class Sam2Runner:
    """SAM 2 on torch."""

    def __init__(self, model: Model, file: WeightsFile, plan: Plan, progress: Progress) -> None:
        from transformers import Sam2Model

        progress(None, Message("Loading {model} on {device}", model=model.id, device=str(plan.device)))
        network = load_transformers(Sam2Model, config(), model, file)
        self.plan = plan
        self.size = model.size
        self.network = network.to(plan.device, DTYPES[plan.precision])
        self.memory = sum(value.nbytes for value in self.network.state_dict().values())

    def run(self, images: np.ndarray) -> Any:
        """Embeddings of one normalized image, float32 (1, 3, size, size), for `at_points` and `in_box`."""
        with torch.inference_mode():
            return self.network.get_image_embeddings(torch.from_numpy(images).to(self.plan.device, DTYPES[self.plan.precision]))

    def at_points(self, embeddings: Any, points: np.ndarray) -> Masks:
        """Three masks for each point, float (prompts, 2): x and y as fractions of width and height."""
        batches = []
        for start in range(0, len(points), POINTS_PER_BATCH):
            batch = torch.from_numpy(points[None, start : start + POINTS_PER_BATCH, None] * self.size).float()
            labels = torch.ones(batch.shape[:3], dtype=torch.int64)
            batches.append(self._decode(embeddings, input_points=batch, input_labels=labels, multimask_output=True))
        return Masks(np.concatenate([b.logits for b in batches]), np.concatenate([b.quality for b in batches]))

    def in_box(self, embeddings: Any, box: np.ndarray) -> Masks:
        """One mask for a box, float (4,): left, top, right, bottom as fractions of width and height."""
        boxes = torch.from_numpy(box[None, None] * self.size).float()
        return self._decode(embeddings, input_boxes=boxes, multimask_output=False)

    def _decode(self, embeddings: Any, **prompt: Any) -> Masks:
        arguments = {name: value.to(self.plan.device) if hasattr(value, "to") else value for name, value in prompt.items()}
        with torch.inference_mode():
            # A copy, as the decoder modifies the list of embeddings.
            output = self.network(image_embeddings=list(embeddings), **arguments)
        masks = Masks(output.pred_masks[0].float().cpu().numpy(), output.iou_scores[0].float().cpu().numpy())
        check_output("sam2", self.plan, masks.logits, masks.quality)
        return masks


def config() -> Any:
    """Configuration of sam2.1-hiera-small."""
    from transformers import Sam2Config

    return Sam2Config(vision_config={"backbone_config": {"model_type": "sam2_hiera_det_model", **SMALL_ENCODER}})
