"""SAM 2 through transformers: an image is looked at once, and then asked for masks as often as one likes.

Nikhila Ravi and others: "SAM 2: Segment Anything in Images and Videos", arXiv 2408.00714, 2024.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rmbg.engines import weights
from rmbg.engines.models import Model
from rmbg.engines.plan import Plan
from rmbg.engines.torch_engine import DTYPES
from rmbg.engines.weights import Progress, Weights
from rmbg.errors import ModelError

#: Blocks of the "small" image encoder; all other numbers are transformers' defaults, which are those of "tiny".
BLOCKS = {"blocks_per_stage": [1, 2, 11, 2], "global_attention_blocks": [7, 10, 13]}

#: Points that are asked about at once: enough to keep the machine busy, few enough for its memory.
TOGETHER = 64


@dataclass(frozen=True, eq=False)
class Masks:
    """Answers to prompts.

    Attributes
    ----------
    logits : float32 array (prompts, masks, h, w)
        Above 0 is the object; at a quarter of the network's input size.
    quality : float32 array (prompts, masks)
        The network's own guess of each mask's overlap with the true object, in [0, 1].
    """

    logits: np.ndarray
    quality: np.ndarray


class Sam2Runner:
    """SAM 2 on torch."""

    def __init__(self, model: Model, file: Weights, plan: Plan, progress: Progress) -> None:
        from transformers import Sam2Model
        from transformers.utils import logging

        progress(None, f"Loading {model.id} on {plan.device}")
        logging.disable_progress_bar()  # transformers draws its own on the terminal otherwise
        logging.set_verbosity_error()
        tensors = weights.read(file)
        try:
            loaded: Any = Sam2Model.from_pretrained(None, config=config(), state_dict=tensors, output_loading_info=True)
            network, found = loaded
            wrong = sorted(found["missing_keys"])
        except RuntimeError as error:  # tensors of other shapes
            wrong = [str(error).splitlines()[0]]
        if wrong:
            raise ModelError(f"{file.path} does not fit {model.id}. These are the weights of another network: {wrong[0]}.")
        self.plan = plan
        self.size = model.size
        self.network = network.eval().requires_grad_(False).to(plan.device, DTYPES[plan.precision])
        self.memory = sum(value.nbytes for value in self.network.state_dict().values())

    def run(self, images: np.ndarray) -> Any:
        """What the network has seen in one image, float32 (1, 3, size, size), normalised."""
        with torch.inference_mode():
            return self.network.get_image_embeddings(torch.from_numpy(images).to(self.plan.device, DTYPES[self.plan.precision]))

    def at_points(self, seen: Any, points: np.ndarray) -> Masks:
        """Three masks for each of `points`, float (prompts, 2): x and y as shares of width and height."""
        parts = []
        for start in range(0, len(points), TOGETHER):
            places = torch.from_numpy(points[None, start : start + TOGETHER, None] * self.size).float()
            labels = torch.ones(places.shape[:3], dtype=torch.int64)
            parts.append(self._ask(seen, input_points=places, input_labels=labels, multimask_output=True))
        return Masks(np.concatenate([part.logits for part in parts]), np.concatenate([part.quality for part in parts]))

    def in_box(self, seen: Any, box: np.ndarray) -> Masks:
        """One mask of what is in `box`, float (4,): left, top, right, bottom as shares of width and height."""
        return self._ask(seen, input_boxes=torch.from_numpy(box[None, None] * self.size).float(), multimask_output=False)

    def _ask(self, seen: Any, **prompt: Any) -> Masks:
        given = {name: value.to(self.plan.device) if hasattr(value, "to") else value for name, value in prompt.items()}
        with torch.inference_mode():
            # The decoder changes the list that it is given, and is asked about the same image again.
            answer = self.network(image_embeddings=list(seen), **given)
        return Masks(answer.pred_masks[0].float().cpu().numpy(), answer.iou_scores[0].float().cpu().numpy())


def config() -> Any:
    """The numbers of sam2.1-hiera-small."""
    from transformers import Sam2Config

    return Sam2Config(vision_config={"backbone_config": {"model_type": "sam2_hiera_det_model", **BLOCKS}})
