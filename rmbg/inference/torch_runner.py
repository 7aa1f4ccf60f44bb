"""Networks on torch, on a GPU or a CPU: those of `rmbg.networks`, and SAM, SAM 2 and ViTMatte as transformers defines them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rmbg.errors import ModelError
from rmbg.inference import weights
from rmbg.inference.catalog import Model, build, renamed
from rmbg.inference.engines import Plan, check_output
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
        load(network, renamed(model, weights.read(file), network.state_dict()), unused)
        fold_batch_norms(network)
        check_finite(network.state_dict())  # a variance below zero becomes NaN
    except WrongTensorsError as error:
        raise ModelError(f"{file.path} does not fit {model.id}. {error}") from None
    except NonFiniteError as error:
        raise damaged(model, file, error) from None
    return network.requires_grad_(False)


def damaged(model: Model, file: WeightsFile, error: NonFiniteError) -> ModelError:
    """Error for weights that hold NaN or infinity."""
    advice = "Export it again" if model.own else "Delete it and download it again"
    return ModelError(f"{file.path} cannot be used for {model.id}: {error}. {advice}.")


def load_transformers(network: Any, config: Any, model: Model, file: WeightsFile) -> Any:
    """Return a network in float32, for inference.

    Parameters
    ----------
    network : class of transformers.PreTrainedModel
    config : transformers.PretrainedConfig
    model : Model
    file : WeightsFile

    Raises
    ------
    ModelError
        If the weights contain NaN or infinity, or are those of another network.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    tensors = weights.read(file)
    try:
        check_finite(tensors)
        loaded, info = network.from_pretrained(None, config=config, state_dict=tensors, output_loading_info=True)
        mismatches = sorted(info["missing_keys"])
    except NonFiniteError as error:
        raise damaged(model, file, error) from None
    except RuntimeError as error:  # tensors of other shapes
        mismatches = [str(error).splitlines()[0]]
    if mismatches:
        raise ModelError(f"{file.path} does not fit {model.id}. These are the weights of another network: {mismatches[0]}.")
    return loaded.eval().requires_grad_(False)


@contextlib.contextmanager
def checked(network: torch.nn.Module, check: Callable[[], None] | None) -> Iterator[None]:
    """Call `check` before each layer of a network within the context; exceptions that it raises end the run."""
    modules = [] if check is None else network.modules()
    hooks = [module.register_forward_pre_hook(lambda *_: check and check()) for module in modules]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


class TorchRunner:
    """A network on torch.

    Attributes
    ----------
    plan : Plan
    model : Model
    memory : int
        Bytes that the network holds.
    """

    def __init__(self, model: Model, file: WeightsFile, plan: Plan, progress: Progress) -> None:
        progress(None, Message("Loading {model} on {device}", model=model.id, device=str(plan.device)))
        self.plan, self.model = plan, model
        self.network: Any = self.place(self.load(model, file))
        self.memory = sum(value.nbytes for value in self.network.state_dict().values())

    def load(self, model: Model, file: WeightsFile) -> Any:
        """The network in float32 on the CPU."""
        return load_network(model, file)

    def place(self, network: Any) -> Any:
        """Move the network to the device and precision of the plan."""
        return network.to(self.plan.device, DTYPES[self.plan.precision], memory_format=torch.channels_last)

    def run(self, images: np.ndarray, check: Callable[[], None] | None = None) -> np.ndarray:
        """Compute masks, float32 (N, h, w) in [0, 1], of normalized images, float32 (N, 3, h, w).

        `check` is called before each layer; it raises to cancel the run.
        """
        with torch.inference_mode(), checked(self.network, check):
            x = torch.from_numpy(images).to(self.plan.device, DTYPES[self.plan.precision])
            return self.network(x.contiguous(memory_format=torch.channels_last)).float().sigmoid()[:, 0].cpu().numpy()


#: Blocks of the "small" image encoder of SAM 2. All other hyperparameters are the defaults of transformers, those of "tiny".
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
        Predicted IoU of each mask.
    """

    logits: np.ndarray
    quality: np.ndarray


class SamRunner(TorchRunner):
    """SAM or SAM 2 on torch: an image is encoded once and can then be prompted repeatedly."""

    def load(self, model: Model, file: WeightsFile) -> Any:
        from transformers import Sam2Model, SamModel

        network = SamModel if model.architecture == "sam" else Sam2Model
        return load_transformers(network, sam_config(model.architecture), model, file)

    def place(self, network: Any) -> Any:
        return network.to(self.plan.device, DTYPES[self.plan.precision])

    def run(self, images: np.ndarray, check: Callable[[], None] | None = None) -> Any:
        """Embeddings of one normalized image, float32 (1, 3, size, size), for `at_points` and `in_box`."""
        with torch.inference_mode(), checked(self.network, check):
            return self.network.get_image_embeddings(torch.from_numpy(images).to(self.plan.device, DTYPES[self.plan.precision]))

    def at_points(self, embeddings: Any, points: np.ndarray) -> Masks:
        """Three masks for each point, float (prompts, 2): x and y as fractions of width and height."""
        batches = []
        for start in range(0, len(points), POINTS_PER_BATCH):
            batch = torch.from_numpy(points[None, start : start + POINTS_PER_BATCH, None] * self.model.size).float()
            labels = torch.ones(batch.shape[:3], dtype=torch.int64)
            batches.append(self._decode(embeddings, input_points=batch, input_labels=labels, multimask_output=True))
        return Masks(np.concatenate([b.logits for b in batches]), np.concatenate([b.quality for b in batches]))

    def in_box(self, embeddings: Any, box: np.ndarray) -> Masks:
        """One mask for a box, float (4,): left, top, right, bottom as fractions of width and height."""
        boxes = torch.from_numpy(box[None, None] * self.model.size).float()
        return self._decode(embeddings, input_boxes=boxes, multimask_output=False)

    def _decode(self, embeddings: Any, **prompt: Any) -> Masks:
        arguments = {name: value.to(self.plan.device) if hasattr(value, "to") else value for name, value in prompt.items()}
        with torch.inference_mode():
            # A copy, as the decoder of SAM 2 modifies its list of embeddings.
            copied = list(embeddings) if isinstance(embeddings, list) else embeddings
            output = self.network(image_embeddings=copied, **arguments)
        masks = Masks(output.pred_masks[0].float().cpu().numpy(), output.iou_scores[0].float().cpu().numpy())
        check_output(self.model.id, self.plan, masks.logits, masks.quality)
        return masks


def sam_config(architecture: str) -> Any:
    """Configuration of sam-vit-base or sam2.1-hiera-small."""
    from transformers import Sam2Config, SamConfig

    if architecture == "sam":
        return SamConfig()
    return Sam2Config(vision_config={"backbone_config": {"model_type": "sam2_hiera_det_model", **SMALL_ENCODER}})


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


class VitMatteRunner(TorchRunner):
    """ViTMatte on torch, in float32: the precision of alpha matters, and the network is small."""

    def load(self, model: Model, file: WeightsFile) -> Any:
        from transformers import VitMatteForImageMatting

        return load_transformers(VitMatteForImageMatting, vitmatte_config(), model, file)

    def place(self, network: Any) -> Any:
        return network.to(self.plan.device)

    def run(self, images: np.ndarray, check: Callable[[], None] | None = None) -> np.ndarray:
        """Alpha, float32 (N, H, W) in [0, 1], of prepared photos and trimaps, float32 (N, 4, H, W)."""
        with torch.inference_mode(), checked(self.network, check):
            alphas = self.network(pixel_values=torch.from_numpy(images).to(self.plan.device)).alphas
        result: np.ndarray = alphas[:, 0].float().cpu().numpy()
        check_output("vitmatte", self.plan, result)
        return result


def vitmatte_config() -> Any:
    """Configuration of hustvl/vitmatte-small-composition-1k."""
    from transformers import VitDetConfig, VitMatteConfig

    return VitMatteConfig(
        backbone_config=VitDetConfig(**BACKBONE),
        hidden_size=BACKBONE["hidden_size"],
        convstream_hidden_sizes=[48, 96, 192],
        fusion_hidden_sizes=[256, 128, 64, 32],
    )
