"""Base class of the published networks that run on this machine; one module per network registers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rmbg.cutout import Cutout
from rmbg.errors import NotReadyError
from rmbg.images.photo import Photo
from rmbg.inference import device, preprocess, weights, zerogpu
from rmbg.inference.catalog import Model
from rmbg.inference.model_cache import MODEL_CACHE
from rmbg.inference.torch_import import torch_is_installed
from rmbg.message import Message, OwnerMessage
from rmbg.providers.base import READY, Execution, Provider, ProviderInfo, RequestContext, Status
from rmbg.providers.local_cutout import local_cutout
from rmbg.settings import Settings
from rmbg.timing import Timer

DATA_USE = "The photo stays on this machine. The weights are downloaded once from the Hugging Face Hub."


class LocalNetwork(Provider):
    """Published network, run on this machine by ``rmbg.inference``."""

    def __init__(self, info: ProviderInfo, model: Model) -> None:
        self.info = info
        self.model = model

    def status(self, settings: Settings) -> Status:
        return model_status(self.model, settings)

    def executions(self, settings: Settings) -> tuple[Execution, ...]:
        plan = zerogpu.PLAN if zerogpu.is_zerogpu() else device.choose(settings, self.model.engines)
        path = weights.present(self.model, settings)
        checksum = "" if path is None else weights.sha256(path, settings)
        return (Execution(checksum, plan.engine, plan.device, plan.precision),)

    def warm_up(self, context: RequestContext) -> None:
        MODEL_CACHE.warm_up(self.model, context.settings, context.progress, context.check)

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        timer = Timer()
        images = preprocess.prepare(self.model, photo.flattened())
        masks, plan = MODEL_CACHE.predict(self.model, images, context.settings, context.progress, context.check, timer)
        context.check()

        def matte(sized: Photo) -> np.ndarray:
            return preprocess.alpha(self.model, masks[0], sized.height, sized.width) * np.float32(1 / 255)

        return local_cutout(
            self.info.id,
            photo,
            matte,
            timer,
            context,
            engine=plan.engine,
            device=plan.device,
            precision=plan.precision,
        )


def model_status(model: Model, settings: Settings) -> Status:
    """Return the status of a model on this machine; fast, and without network access."""
    if not torch_is_installed():
        return Status("unavailable", Message("not set up here", owner="; run pip install torch transformers"))
    try:
        # With "auto" everywhere some device always fits, and probing the devices takes a second.
        if (settings.device, settings.engine, settings.precision) != ("auto", "auto", "auto"):
            device.choose(settings, model.engines)
        if weights.present(model, settings):
            return READY
    except NotReadyError as error:
        return Status("unavailable", OwnerMessage(str(error), Message("not set up here")))
    if weights.offline(settings):
        advice = "; unset HF_HUB_OFFLINE to download them"
        text = Message("its weights ({size} MB) are not downloaded", owner=advice, size=model.megabytes)
        return Status("unavailable", text)
    if model.gated and not weights.token(settings):
        text = Message("its license has to be accepted first", owner=f"; accept it at {model.page} and set HF_TOKEN")
        return Status("licence", text)
    downloads = Message("downloads {size} MB on first use", size=model.megabytes)
    if model.gated:
        text = Message("{downloads}, after the license at {page} is accepted", downloads=downloads, page=model.page)
        return Status("download", text)
    return Status("download", downloads)


def describe(model: Model, title: str, network: str, seconds: float) -> ProviderInfo:
    """Return the `ProviderInfo` of a published network; `seconds` is its run time for one photo on two CPU cores."""
    return ProviderInfo(
        id=model.id,
        title=title,
        kind="local",
        model=f"{model.hub}: {network}",
        license=model.license,
        license_url=model.license_url,
        pixels=DATA_USE,
        seconds=seconds,
        input_size=f"{model.size} x {model.size}",
        supports=("offline", "soft alpha", "deterministic"),
    )
