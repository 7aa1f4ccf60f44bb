"""What the published networks on this machine have in common; each has a small file of its own beside this one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from rmbg.cutout import Cutout
from rmbg.engines import pictures, plan, weights
from rmbg.engines.models import Model
from rmbg.engines.owner import OWNER
from rmbg.errors import NotReadyError
from rmbg.photo import Photo
from rmbg.providers.base import READY, Call, Provider, ProviderInfo, Status
from rmbg.providers.finished import finished
from rmbg.settings import Settings

PIXELS = "The photo stays on this machine; the weights come from the Hugging Face hub once."


class LocalNetwork(Provider):
    """A published network, run on this machine by ``rmbg.engines``."""

    def __init__(self, info: ProviderInfo, model: Model) -> None:
        self.info = info
        self.model = model

    def status(self, settings: Settings) -> Status:
        model = self.model
        try:
            # Only where something is asked for by name: whatever is there will do otherwise, and looking takes a second.
            if (settings.device, settings.engine, settings.precision) != ("auto", "auto", "auto"):
                plan.choose(settings, model.engines)
            if weights.present(model, settings):
                return READY
        except NotReadyError as error:
            return Status("unavailable", str(error))
        if weights.offline(settings):
            return Status("unavailable", f"its weights are not here, and HF_HUB_OFFLINE is set ({model.megabytes} MB)")
        if model.gated and not weights.token(settings):
            return Status("licence", f"needs accepting the licence at {model.page}, and HF_TOKEN")
        downloads = f"downloads {model.megabytes} MB on first use"
        if model.gated:
            return Status("download", f"{downloads}, once the licence at {model.page} is accepted")
        return Status("download", downloads)

    def cut(self, photo: Photo, options: Mapping[str, Any], call: Call) -> Cutout:
        started = time.perf_counter()
        images = pictures.prepare(self.model, photo.flattened())
        masks, ran = OWNER.masks(self.model, images, call.settings, call.progress, call.check)
        call.check()
        call.progress(None, "Cleaning the colours of the edge")
        alpha = pictures.alpha(self.model, masks[0], photo.height, photo.width)
        return finished(
            self.info.id,
            photo,
            alpha * np.float32(1 / 255),
            started,
            call,
            engine=ran.engine,
            device=ran.device,
            precision=ran.precision,
        )


def describe(model: Model, title: str, network: str, seconds: float) -> ProviderInfo:
    """The info of a published network; `seconds` is what a photo takes on two processor cores."""
    return ProviderInfo(
        id=model.id,
        title=title,
        kind="local",
        model=f"{model.hub}: {network}",
        licence=model.licence,
        licence_url=model.licence_url,
        pixels=PIXELS,
        seconds=seconds,
        input_size=f"{model.size} x {model.size}",
        supports=("offline", "soft alpha", "deterministic"),
    )
