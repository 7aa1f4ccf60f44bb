"""Built-in provider: runs without a key, a download, a GPU or a network connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmbg.cutout import LOW_CONFIDENCE, Cutout
from rmbg.errors import NoSubjectError
from rmbg.images.photo import Photo
from rmbg.images.pixels import reduce_to
from rmbg.inference import builtin_runner
from rmbg.inference.engines import Plan
from rmbg.matting import color_prior
from rmbg.matting.guided_filter import upsample_guided
from rmbg.matting.matte import sharpen_edges
from rmbg.matting.refiner import refine
from rmbg.networks import builtin_spec, refiner_spec
from rmbg.providers.base import Execution, Provider, ProviderInfo, RequestContext
from rmbg.providers.local import local_cutout, on_device
from rmbg.runtime.messages import joined
from rmbg.runtime.telemetry import Timer
from rmbg.settings import Settings

#: Predicted IoU below which the matte is rejected.
MIN_CONFIDENCE = 0.3
#: Meaning of a low confidence, and note of a cutout that has one.
LOW_CONFIDENCE_MEANING = (
    "The confidence in this result is low: parts of the subject may be missing, or parts of the background may remain."
)
LOW_CONFIDENCE_NOTE = joined(LOW_CONFIDENCE_MEANING, "Try another provider, or crop the photo closer to the subject.")

#: Smallest accepted area of a subject, as a fraction of the photo.
MIN_SUBJECT_AREA = 0.002

#: Least longer side of the copy of the photo that the coarse matte is computed on, in pixels: 2.5 times that of the network's
#: input and 1.5 times that of the color prior, so that no detail is lost for either.
OVERVIEW_SIDE = 960

#: Half of the window's side of the guided filter, in pixels of the refined matte.
RADIUS = 2.0


class Builtin(Provider):
    """Small network with a color prior, a second one that corrects its matte, and a guided filter that upsamples it."""

    info = ProviderInfo(
        id="builtin",
        title="Built-in",
        kind="local",
        model="two networks of 5.7 and 0.3 million parameters, included in the package",
        best_for="quick first cutouts",
        license="MIT; trained on research data sets whose terms may limit commercial use, see train/README.md.",
        license_url="https://opensource.org/license/mit",
        pixels="The photo stays on this machine.",
        seconds=0.8,
        input_size="384 x 384, then 448 x 448, edges at full size",
        supports=("offline", "soft alpha", "deterministic"),
    )

    small_network = True

    def executions(self, settings: Settings) -> tuple[Execution, ...]:
        plan = builtin_runner.choose_plan(settings)
        weights = builtin_spec.SHA256, refiner_spec.SHA256
        return tuple(Execution(sha256, plan.engine, plan.device, plan.precision) for sha256 in weights)

    def warm_up(self, context: RequestContext) -> None:
        warm_up(context.settings)

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        timer = Timer()
        rgb = photo.flattened()
        plan = builtin_runner.choose_plan(context.settings)
        with on_device(context, timer):
            context.progress(0.05, "Detecting the subject")
            small, confidence = self._small_matte(rgb, plan, timer)
            context.check()
            context.progress(0.45, "Refining the edges")
            small = self._refined(small, rgb, plan, timer)
        notes = (LOW_CONFIDENCE_NOTE,) if confidence < LOW_CONFIDENCE else ()
        return local_cutout(
            self.info.id,
            photo,
            lambda sized: upsample_guided(small, rgb if sized is photo else sized.flattened(), radius=RADIUS),
            timer,
            context,
            plan,
            notes=notes,
            confidence=confidence,
        )

    def matte(self, rgb: np.ndarray) -> tuple[np.ndarray, float]:
        """Predict the matte of a photo and its confidence, with the settings of the environment.

        Parameters
        ----------
        rgb : uint8 array (H, W, 3)

        Returns
        -------
        matte : float32 array (H, W)
            Alpha in [0, 1] at the size of the photo.
        confidence : float
            IoU with the true matte as predicted by the network.

        Raises
        ------
        NoSubjectError
            If the subject is smaller than `MIN_SUBJECT_AREA` or the confidence is below `MIN_CONFIDENCE`.
        """
        plan = builtin_runner.choose_plan(Settings.from_environ())
        small, confidence = self._small_matte(rgb, plan, Timer())
        return upsample_guided(self._refined(small, rgb, plan, Timer()), rgb, radius=RADIUS), confidence

    def _small_matte(self, rgb: np.ndarray, plan: Plan, timer: Timer) -> tuple[np.ndarray, float]:
        """Return the matte of a photo at the size of the network's output, float32 (h, w), and its confidence."""
        rgb = reduce_to(rgb, OVERVIEW_SIDE)
        logits, confidence = builtin_runner.predict(rgb, plan, timer)
        small = sharpen_edges(color_prior.apply_color_prior(logits, rgb))
        if confidence < MIN_CONFIDENCE or (small > 0.5).mean() < MIN_SUBJECT_AREA:
            raise NoSubjectError(
                "No clear subject was found in the photo. Try another provider or a photo with a plainer background."
            )
        return small, confidence

    def _refined(self, matte: np.ndarray, rgb: np.ndarray, plan: Plan, timer: Timer) -> np.ndarray:
        """Return a coarse matte of a photo corrected by the refiner, see ``rmbg.matting.refiner.refine``."""
        return refine(lambda window, coarse: builtin_runner.correct(window, coarse, plan, timer), matte, rgb)


def warm_up(settings: Settings) -> None:
    """Load the network and run it once, so that the first photo does not include the load time."""
    with builtin_runner.running(builtin_runner.choose_plan(settings), Timer()):
        pass
