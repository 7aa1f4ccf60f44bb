"""Built-in provider: runs without a key, a download, a GPU or a network connection."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rmbg.cutout import LOW_CONFIDENCE, Cutout
from rmbg.errors import ModelError, NoSubjectError
from rmbg.images.photo import Photo
from rmbg.inference.torch_import import import_torch
from rmbg.matting import color_prior
from rmbg.matting.guided_filter import upsample_guided
from rmbg.matting.matte import sharpen_edges
from rmbg.providers.base import Provider, ProviderInfo, RequestContext, no_progress
from rmbg.providers.local_cutout import local_cutout

if TYPE_CHECKING:
    from rmbg.networks.builtin import BuiltinNet

#: Predicted IoU below which the matte is rejected.
MIN_CONFIDENCE = 0.3
#: Meaning of a low confidence, and note of a cutout that has one.
LOW_CONFIDENCE_MEANING = (
    "The confidence in this result is low: parts of the subject may be missing, or parts of the background may remain."
)
LOW_CONFIDENCE_NOTE = f"{LOW_CONFIDENCE_MEANING} Try another provider, or crop the photo closer to the subject."

#: Smallest accepted area of a subject, as a fraction of the photo.
MIN_SUBJECT_AREA = 0.002

_load_lock = threading.Lock()

#: Serializes inference: the network uses all cores, so concurrent runs would be slower.
_inference_lock = threading.Lock()


class Builtin(Provider):
    """Small network with a color prior; a guided filter upsamples its matte to the size of the photo."""

    info = ProviderInfo(
        id="builtin",
        title="Built-in",
        kind="local",
        model="a network of 5.7 million parameters, included in the package",
        license="MIT; trained on research data sets whose terms may limit commercial use, see train/README.md.",
        license_url="https://opensource.org/license/mit",
        pixels="The photo stays on this machine.",
        seconds=0.8,
        input_size="320 x 320, edges at full size",
        supports=("offline", "soft alpha", "deterministic"),
    )

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        started = time.perf_counter()
        rgb = photo.flattened()
        context.progress(0.05, "Detecting the subject")
        matte, confidence = self.matte(rgb, context.progress)
        context.check()
        context.progress(0.7, "Estimating the foreground colors")
        notes = (LOW_CONFIDENCE_NOTE,) if confidence < LOW_CONFIDENCE else ()
        return local_cutout(
            self.info.id,
            photo,
            matte,
            started,
            context,
            engine="torch",
            device="cpu",
            precision="fp32",
            notes=notes,
            confidence=confidence,
        )

    def matte(self, rgb: np.ndarray, progress: Callable[[float | None, str], None] = no_progress) -> tuple[np.ndarray, float]:
        """Predict the matte of a photo and its confidence.

        Parameters
        ----------
        rgb : uint8 array (H, W, 3)
        progress : callable (fraction, text), optional
            Fractions are shares of the usual time of `cut`.

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
        logits, confidence = _predict(rgb)
        progress(0.45, "Refining the edges")
        small = sharpen_edges(color_prior.apply_color_prior(logits, rgb))
        if confidence < MIN_CONFIDENCE or (small > 0.5).mean() < MIN_SUBJECT_AREA:
            raise NoSubjectError(
                "No clear subject was found in the photo. Try another provider or a photo with a plainer background."
            )
        return upsample_guided(small, rgb), confidence


def warm_up() -> None:
    """Load the network and run it once, so that the first photo does not include the load time."""
    _predict(np.zeros((32, 32, 3), np.uint8))


def _predict(rgb: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the logits of the network, float32 (h, w), and its predicted IoU."""
    import_torch()
    from rmbg.networks.tta import predict  # deferred: importing torch takes seconds

    with _load_lock:
        net = _network()
    with _inference_lock:
        return predict(net, rgb)


@functools.cache
def _network() -> BuiltinNet:
    from rmbg.networks.builtin import load

    try:
        return load()
    except (OSError, ValueError) as error:
        raise ModelError(f"The built-in network could not be loaded ({error}). Reinstall the package.") from None
