"""The provider that needs nothing: no key, no download, no graphics card, no network connection."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rmbg import evidence
from rmbg.cutout import Cutout
from rmbg.errors import ModelError, NoSubjectError
from rmbg.matte import steepen, upsample_guided
from rmbg.photo import Photo
from rmbg.providers.base import Call, Provider, ProviderInfo
from rmbg.providers.finished import finished

if TYPE_CHECKING:
    from rmbg.networks.builtin import BuiltinNet

#: Expected IoU below which the network's matte is a guess, which is not shown, and below which it is shown with a doubt.
GUESS, UNSURE = 0.3, 0.5
DOUBT = "The built-in network is not sure what the subject of this photo is; another provider may do better."

#: A subject covers at least this share of the photo.
SMALLEST = 0.002

_loading = threading.Lock()


class Builtin(Provider):
    """A small network of our own, colours as second opinion, the edge brought to full size by a guided filter."""

    info = ProviderInfo(
        id="builtin",
        title="Built-in",
        kind="local",
        model="a network of 5.7 million parameters, in the package",
        licence="MIT; trained on research data sets whose terms may limit commercial use, see train/README.md.",
        licence_url="https://opensource.org/license/mit",
        pixels="The photo stays on this machine.",
        seconds=0.8,
        input_size="320 x 320, edges at full size",
        supports=("offline", "soft alpha", "deterministic"),
    )

    def cut(self, photo: Photo, options: Mapping[str, Any], call: Call) -> Cutout:
        started = time.perf_counter()
        rgb = photo.flattened()
        call.progress(0.1, "Looking for the subject")
        matte, confidence = self.matte(rgb)
        call.check()
        call.progress(0.7, "Cleaning the colours of the edge")
        notes = (DOUBT,) if confidence < UNSURE else ()
        return finished(self.info.id, photo, matte, started, call, engine="torch", device="cpu", precision="fp32", notes=notes)

    def matte(self, rgb: np.ndarray) -> tuple[np.ndarray, float]:
        """Alpha of a photo (H, W, 3) uint8 at its size, float32 (H, W), and the IoU that the network expects of it.

        Raises
        ------
        NoSubjectError
            If nothing stands out, or the network does not trust its own answer.
        """
        logits, confidence = _predict(rgb)
        small = steepen(evidence.weigh(logits, rgb))
        if confidence < GUESS or (small > 0.5).mean() < SMALLEST:
            raise NoSubjectError(
                "No clear subject was found: nothing stands out from the background; try another provider or a photo with a "
                "plainer background."
            )
        return upsample_guided(small, rgb), confidence


def warm_up() -> None:
    """Load the network and run it once: the first picture then takes no longer than the next."""
    _predict(np.zeros((32, 32, 3), np.uint8))


def _predict(rgb: np.ndarray) -> tuple[np.ndarray, float]:
    """The network's logits, float32 (h, w), and the IoU that it expects of its matte."""
    from rmbg.networks.looks import predict  # imports torch, which takes seconds, and no other provider may need it

    with _loading:
        net = _network()
    return predict(net, rgb)


@functools.cache
def _network() -> BuiltinNet:
    from rmbg.networks.builtin import load

    try:
        return load()
    except (OSError, ValueError) as error:
        raise ModelError(f"The built-in network cannot be loaded ({error}); install the program again.") from None
