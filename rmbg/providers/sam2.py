"""SAM 2, a general segmenter, set up to find the foreground by itself; or told by a point or a box what to cut out.

SAM 2 knows things, not what is in front. The rule for the foreground, from the network's answers to a grid of points:

1. A mask is a candidate if the network trusts it (guessed overlap), if it is firm (nearly the same when the threshold moves),
   if it is neither a speck nor nearly everything, and if it does not lie along the picture's border, as backgrounds do.
2. Its score is trust times firmness times how central it is times the square root of its size.
3. The best candidate is the foreground, joined by those that overlap it, or that score at least half as much: parts of the
   subject, and what stands beside it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from rmbg.cutout import Cutout
from rmbg.engines import pictures
from rmbg.engines.models import MODELS
from rmbg.engines.owner import OWNER
from rmbg.errors import NoSubjectError, OptionError, printable
from rmbg.matte import upsample_guided
from rmbg.photo import Photo
from rmbg.providers.base import Call, Option
from rmbg.providers.finished import finished
from rmbg.providers.local import LocalNetwork, describe

if TYPE_CHECKING:
    from rmbg.engines.sam2 import Masks, Sam2Runner  # which imports torch, and that takes seconds

TRUSTED = 0.8
FIRM = 0.85
SMALLEST, LARGEST = 0.005, 0.9
BORDER = 0.25

MODEL = MODELS["sam2"]

OPTIONS = (
    Option("point", "Point", "text", "", "x,y of something to cut out, as shares of width and height: 0.5,0.5 is the middle."),
    Option("box", "Box", "text", "", "left,top,right,bottom around what to cut out, as shares of width and height."),
    Option("grid", "Grid", "int", 16, "Points a side that are asked about where neither is given.", minimum=2, maximum=64),
)


class Sam2(LocalNetwork):
    """SAM 2 as a background remover."""

    def cut(self, photo: Photo, options: Mapping[str, Any], call: Call) -> Cutout:
        started = time.perf_counter()
        point, box = shares(options["point"], "point", 2), shares(options["box"], "box", 4)
        if box is not None and (box[0] >= box[2] or box[1] >= box[3]):
            raise OptionError(
                f"box is {printable(options['box'], 60)!r}; left must be less than right, and top less than bottom."
            )
        rgb = photo.flattened()
        images = pictures.prepare(self.model, rgb)

        def ask(runner: Sam2Runner) -> Masks:
            seen = runner.run(images)
            call.check()
            if box is not None:
                return runner.in_box(seen, box)
            return runner.at_points(seen, grid(options["grid"]) if point is None else point[None])

        answers, plan = OWNER.run(self.model, ask, call.settings, call.progress, call.check)
        call.check()
        call.progress(None, "Drawing the edge")
        logits = foreground(answers) if point is None and box is None else most_trusted(answers)
        return finished(
            self.info.id,
            photo,
            upsample_guided(1 / (1 + np.exp(-logits)), rgb),
            started,
            call,
            engine=plan.engine,
            device=plan.device,
            precision=plan.precision,
        )


def shares(text: str, name: str, count: int) -> np.ndarray | None:
    """`count` numbers from 0 to 1, separated by commas; None if nothing is given."""
    if not text.strip():
        return None
    try:
        values = np.array([float(part) for part in text.split(",")], np.float32)
    except ValueError:
        values = np.array([], np.float32)
    if len(values) != count or not ((values >= 0) & (values <= 1)).all():
        raise OptionError(f"{name} is {printable(text, 60)!r}; it must be {count} numbers from 0 to 1, separated by commas.")
    return values


def grid(side: int) -> np.ndarray:
    """float32 (side * side, 2): the middles of the fields of a grid over the picture."""
    middles = (np.arange(side, dtype=np.float32) + 0.5) / side
    return np.stack(np.meshgrid(middles, middles), -1).reshape(-1, 2)


def most_trusted(answers: Masks) -> np.ndarray:
    """Logits of the mask that the network itself thinks best."""
    prompt, mask = np.unravel_index(answers.quality.argmax(), answers.quality.shape)
    return answers.logits[prompt, mask]


def foreground(answers: Masks) -> np.ndarray:
    """Logits (h, w) of the foreground, by the rule above.

    Raises
    ------
    NoSubjectError
        If there is no candidate.
    """
    height, width = answers.logits.shape[2:]
    logits, trust = answers.logits.reshape(-1, height, width), answers.quality.reshape(-1)
    masks = logits > 0
    area = masks.mean((1, 2))
    firm = (logits > 1).sum((1, 2)) / np.maximum((logits > -1).sum((1, 2)), 1)
    border = np.concatenate([masks[:, 0], masks[:, -1], masks[:, :, 0], masks[:, :, -1]], 1).mean(1)
    chosen = (trust >= TRUSTED) & (firm >= FIRM) & (area >= SMALLEST) & (area <= LARGEST) & (border <= BORDER)
    if not chosen.any():
        raise NoSubjectError("SAM 2 found nothing that stands out; give it a point or a box, or try another provider.")
    masks, logits, area = masks[chosen], logits[chosen], area[chosen]
    rows, columns = np.mgrid[:height, :width]
    central = np.exp(-2 * ((rows / height - 0.5) ** 2 + (columns / width - 0.5) ** 2))
    score = trust[chosen] * firm[chosen] * (masks * central).mean((1, 2)) / area * np.sqrt(area)
    best = score.argmax()
    shared = (masks & masks[best]).sum((1, 2)) / masks.sum((1, 2))
    return logits[(shared >= 0.5) | (score >= score[best] / 2)].max(0)


SAM2 = Sam2(
    replace(describe(MODEL, "SAM 2", "SAM 2.1, 46 million parameters", seconds=12.0), options=OPTIONS),
    MODEL,
)
