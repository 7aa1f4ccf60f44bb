"""SAM and SAM 2 as background removers: prompted by a point or a box, or by a grid of points with automatic selection.

They segment any object and do not rank foreground above background. Without a prompt they are run on a grid of points, and the
foreground is selected from the predicted masks:

1. A mask is a candidate if its predicted IoU and its stability (area ratio at two thresholds) are high, if its area is neither
   tiny nor nearly the whole image, and if it does not cover much of the image border, as backgrounds do.
2. Its score is predicted IoU times stability times centrality times the square root of its area.
3. The foreground is the union of the best candidate, the candidates that overlap it, and those that score at least half as
   much, such as objects beside the subject.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from rmbg.cutout import Cutout
from rmbg.errors import NoSubjectError
from rmbg.images.photo import Photo
from rmbg.inference import preprocess
from rmbg.inference.catalog import MODELS
from rmbg.inference.engines import Plan
from rmbg.inference.model_cache import MODEL_CACHE
from rmbg.matting.guided_filter import upsample_guided
from rmbg.providers.base import Option, RequestContext
from rmbg.providers.local import BOX, LocalNetwork, local_cutout, on_device, parse_box, parse_fractions
from rmbg.runtime.telemetry import Timer

if TYPE_CHECKING:
    from rmbg.inference.torch_runner import Masks, SamRunner  # deferred at run time: importing torch takes seconds

#: Limits for candidates of the foreground. Areas are fractions of the image, the last one is a fraction of its border.
MIN_PREDICTED_IOU = 0.8
MIN_STABILITY = 0.85
MIN_AREA, MAX_AREA = 0.005, 0.9
MAX_BORDER_COVERAGE = 0.25

OPTIONS = (
    Option("point", "Point", "", "x,y of a point on the subject, as fractions of width and height; 0.5,0.5 is the center."),
    BOX,
    Option(
        "grid",
        "Grid",
        16,
        "Points per side of the prompt grid that is used without a point or box.",
        minimum=2,
        maximum=64,
        advanced=True,
    ),
)


class SegmentAnything(LocalNetwork):
    """SAM or SAM 2 as a background remover."""

    options = OPTIONS

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        timer = Timer()
        point, box = parse_fractions(options["point"], "point", 2), parse_box(options["box"])
        rgb = photo.flattened()
        points = point_grid(options["grid"]) if point is None else point[None]
        with on_device(context, timer):
            masks, plan = self.predict(rgb, points, box, context, timer)
        context.progress(None, "Refining the edge")
        logits = select_foreground(masks) if point is None and box is None else best_mask(masks)
        small = 1 / (1 + np.exp(-logits))
        return local_cutout(
            self.info.id,
            photo,
            lambda sized: upsample_guided(small, rgb if sized is photo else sized.flattened()),
            timer,
            context,
            plan,
        )

    def predict(
        self, rgb: np.ndarray, points: np.ndarray, box: np.ndarray | None, context: RequestContext, timer: Timer
    ) -> tuple[Masks, Plan]:
        """Return the masks of the object in a box, or else of those at points, and the plan of the network."""
        images = preprocess.prepare(self.model, rgb)
        rows, columns = preprocess.place(self.model, *rgb.shape[:2])
        filled = np.array([columns.stop, rows.stop], np.float32) / self.model.size

        def prompt(runner: SamRunner) -> Masks:
            embeddings = runner.run(images, context.check)
            context.check()
            if box is None:
                return runner.at_points(embeddings, points * filled)
            return runner.in_box(embeddings, box * np.tile(filled, 2))

        masks, plan = MODEL_CACHE.run(self.model, prompt, context.settings, context.progress, context.check, timer)
        context.check()
        return replace(masks, logits=without_padding(masks.logits, *filled)), plan


def without_padding(logits: np.ndarray, width: float, height: float) -> np.ndarray:
    """Resize the part of masks that a photo fills to whole pixels.

    Parameters
    ----------
    logits : float32 array (prompts, masks, h, w)
    width, height : float
        Fractions of `w` and `h`, from the top left corner.
    """
    if width == height == 1:
        return logits
    right, bottom = width * logits.shape[3], height * logits.shape[2]
    size = math.ceil(right), math.ceil(bottom)
    parts = [
        np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.BILINEAR, box=(0, 0, right, bottom)))
        for mask in np.concatenate(logits)
    ]
    return np.stack(parts).reshape(*logits.shape[:2], *size[::-1])


def mask_at(photo: Photo, point: tuple[float, float], context: RequestContext) -> np.ndarray:
    """Return the matte of the object at a point, float32 (H, W) in [0, 1].

    Parameters
    ----------
    photo : Photo
    point : (x, y)
        Fractions of width and height, in [0, 1].
    context : RequestContext

    Raises
    ------
    RmbgError
        If the network is not available or was cancelled.
    """
    rgb = photo.flattened()
    masks, _ = SAM2.predict(rgb, np.array([point], np.float32), None, context, Timer())
    return upsample_guided(1 / (1 + np.exp(-best_mask(masks))), rgb)


def point_grid(side: int) -> np.ndarray:
    """Return the cell centers of a `side` x `side` grid over the unit square, float32 (side * side, 2) as x and y."""
    centers = (np.arange(side, dtype=np.float32) + 0.5) / side
    return np.stack(np.meshgrid(centers, centers), -1).reshape(-1, 2)


def best_mask(masks: Masks) -> np.ndarray:
    """Return the logits (h, w) of the mask with the highest predicted IoU."""
    prompt, mask = np.unravel_index(masks.quality.argmax(), masks.quality.shape)
    return masks.logits[prompt, mask]


def select_foreground(masks: Masks) -> np.ndarray:
    """Return the logits (h, w) of the foreground, selected by the rule above.

    Raises
    ------
    NoSubjectError
        If no mask is a candidate.
    """
    height, width = masks.logits.shape[2:]
    logits, predicted_iou = masks.logits.reshape(-1, height, width), masks.quality.reshape(-1)
    inside = logits > 0
    area = inside.mean((1, 2))
    stability = (logits > 1).sum((1, 2)) / np.maximum((logits > -1).sum((1, 2)), 1)
    border = np.concatenate([inside[:, 0], inside[:, -1], inside[:, :, 0], inside[:, :, -1]], 1).mean(1)
    candidate = (predicted_iou >= MIN_PREDICTED_IOU) & (stability >= MIN_STABILITY)
    candidate &= (area >= MIN_AREA) & (area <= MAX_AREA) & (border <= MAX_BORDER_COVERAGE)
    if not candidate.any():
        raise NoSubjectError("No subject was found in the photo. Give a point or a box, or try another provider.")
    inside, logits, area = inside[candidate], logits[candidate], area[candidate]
    rows, columns = np.mgrid[:height, :width]
    centrality = np.exp(-2 * ((rows / height - 0.5) ** 2 + (columns / width - 0.5) ** 2))
    score = predicted_iou[candidate] * stability[candidate] * (inside * centrality).mean((1, 2)) / area * np.sqrt(area)
    best = score.argmax()
    overlap = (inside & inside[best]).sum((1, 2)) / inside.sum((1, 2))
    return logits[(overlap >= 0.5) | (score >= score[best] / 2)].max(0)


SAM2 = SegmentAnything(MODELS["sam2"])
