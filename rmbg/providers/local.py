"""Providers that run published networks on this machine, and the last step of all local ones: from a matte to a cutout."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from rmbg.billing import quote
from rmbg.cutout import Cutout
from rmbg.errors import NotReadyError, OptionError, printable
from rmbg.images.photo import Photo
from rmbg.images.pixels import shrink_photo
from rmbg.inference import device, hub, inventory, preprocess, weights, zerogpu
from rmbg.inference.box import Box, add_margin, crop, paste
from rmbg.inference.catalog import MODELS, OWN, SEGMENT_ANYTHING, Model
from rmbg.inference.engines import Plan, torch_is_installed
from rmbg.inference.model_cache import MODEL_CACHE
from rmbg.matting.foreground import finish
from rmbg.providers.base import READY, Execution, Option, Provider, ProviderInfo, RequestContext, Status
from rmbg.runtime.messages import Message, OwnerMessage
from rmbg.runtime.telemetry import Timer
from rmbg.settings import Settings

#: Pixels of the photo for each pixel of a preview below which there is no preview: the full size follows at once.
PREVIEW_RATIO = 1.5

#: Plan of a cutout whose matte is no result of a network.
NO_PLAN = Plan("", "", "")

BOX = Option("box", "Box", "", "left,top,right,bottom of a box around the subject, as fractions of width and height.")

DATA_USE = "The photo stays on this machine. The weights are downloaded once from the Hugging Face Hub."
DATA_USE_OF_URL = "The photo stays on this machine. The weights are downloaded once from {host}."


@contextmanager
def on_device(context: RequestContext, timer: Timer) -> Iterator[None]:
    """Hold the device for the duration of the block; the seconds until it is free are not counted."""
    with ExitStack() as stack:
        with timer.excluded():
            stack.enter_context(context.device(context.check))
        yield


def local_cutout(
    provider: str,
    photo: Photo,
    matte: Callable[[Photo], np.ndarray],
    timer: Timer,
    context: RequestContext,
    plan: Plan = NO_PLAN,
    notes: tuple[str, ...] = (),
    confidence: float | None = None,
) -> Cutout:
    """Build the cutout of a matte: estimate foreground colors, apply the photo's own alpha, add run time and cost.

    A preview that `context` requests is computed before, and its seconds are not counted.

    Parameters
    ----------
    provider : str
        Provider id.
    photo : Photo
    matte : callable (photo) -> float array (H, W)
        Returns alpha in [0, 1] at the size of its argument: the photo, or a smaller copy of it.
    timer : Timer
        Started with the provider.
    context : RequestContext
    plan : Plan
        Execution plan of the network; without one, no network has run.
    notes : tuple of str
        Messages to the user, appended to those of the photo.
    confidence : float, optional
        Predicted IoU with the true matte.

    Returns
    -------
    Cutout
    """

    def cutout(sized: Photo, alpha: np.ndarray) -> Cutout:
        alpha, foreground = finish(sized, alpha)
        seconds, timings = timer.stop()
        if sized is photo and (provider in MODELS or provider.startswith(OWN)):
            inventory.record_seconds(provider, timings.warm, context.settings)
        return Cutout(
            photo=sized,
            matte=alpha,
            foreground=foreground,
            provider=provider,
            seconds=seconds,
            cost=quote.own_hardware(timings.warm, context.settings.hourly_usd),
            engine=plan.engine,
            device=plan.device,
            precision=plan.precision,
            notes=photo.notes + notes,
            timings=timings,
            confidence=confidence,
        )

    if context.preview is not None:
        with timer.excluded():
            small = shrink_photo(photo, context.preview.side)
            if photo.width * photo.height >= PREVIEW_RATIO * small.width * small.height:
                context.preview.show(cutout(small, matte(small)), photo.width, photo.height)
        context.check()
    alpha = matte(photo)
    context.check()
    context.progress(None, "Estimating the foreground colors")
    return cutout(photo, alpha)


class LocalNetwork(Provider):
    """Published network, run on this machine by ``rmbg.inference``.

    Parameters
    ----------
    model : Model
        Its id is also that of the provider.
    """

    options: tuple[Option, ...] = ()

    def __init__(self, model: Model) -> None:
        self.model = model
        self.info = ProviderInfo(
            id=model.id,
            title=model.title,
            kind="local",
            model=f"{model.source}: {model.network}",
            best_for=model.best_for,
            license=model.license,
            license_url=model.license_url,
            pixels=Message(DATA_USE_OF_URL, host=urlsplit(model.url).netloc) if model.url else DATA_USE,
            seconds=model.seconds,
            input_size=model.input_size,
            supports=("offline", "soft alpha", "deterministic"),
            options=self.options,
        )

    def status(self, settings: Settings) -> Status:
        on_gpu = "torch" in self.model.engines and self.model.architecture not in SEGMENT_ANYTHING
        if zerogpu.is_zerogpu() and on_gpu and self.model.id not in zerogpu.RUNNERS:
            return Status("unavailable", Message("not set up here", owner="; build the Space with rmbg space --preload"))
        return model_status(self.model, settings)

    def executions(self, settings: Settings) -> tuple[Execution, ...]:
        shared = zerogpu.is_zerogpu() and "torch" in self.model.engines
        plan = zerogpu.plan(self.model) if shared else device.choose(settings, self.model.engines, self.model.architecture)
        path = weights.present(self.model, settings)
        checksum = "" if path is None else weights.weights_sha256(path, settings)
        return (Execution(checksum, plan.engine, plan.device, plan.precision),)

    def warm_up(self, context: RequestContext) -> None:
        model = self._on_engine(self.model.size, self.model.size, context.settings)
        MODEL_CACHE.warm_up(model, context.settings, context.progress, context.check)

    def region(self, options: Mapping[str, Any], height: int, width: int) -> Box:
        """Part of a photo that the network processes."""
        return 0, 0, width, height

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        timer = Timer()
        rgb = crop(photo.flattened(), self.region(options, photo.height, photo.width))
        height, width = rgb.shape[:2]
        model = self._on_engine(height, width, context.settings)
        images = preprocess.prepare(model, rgb)
        with on_device(context, timer):
            masks, plan = MODEL_CACHE.predict(model, images, context.settings, context.progress, context.check, timer)
        context.check()

        def matte(sized: Photo) -> np.ndarray:
            left, top, right, bottom = box = self.region(options, sized.height, sized.width)
            alpha = preprocess.alpha(model, masks[0], bottom - top, right - left)
            return paste(alpha, box, sized.height, sized.width) * np.float32(1 / 255)

        return local_cutout(self.info.id, photo, matte, timer, context, plan)

    def _on_engine(self, height: int, width: int, settings: Settings) -> Model:
        """The model, with a static input for a photo of this size if the engine needs one."""
        if self.model.dynamic is None or zerogpu.is_zerogpu():
            return self.model
        engine, _ = device.choose_engine_and_device(settings, self.model.engines)
        return self.model.static(height, width) if engine == "openvino" else self.model


class BoxNetwork(LocalNetwork):
    """Network that segments the object in a box, or the subject of the whole photo."""

    options = (BOX,)

    def region(self, options: Mapping[str, Any], height: int, width: int) -> Box:
        fractions = parse_box(options["box"])
        left, top, right, bottom = (0.0, 0.0, 1.0, 1.0) if fractions is None else map(float, fractions)
        # At least one pixel, also of a smaller copy of the photo.
        right, bottom = max(right * width, left * width + 1), max(bottom * height, top * height + 1)
        return add_margin((int(left * width), int(top * height), int(right), int(bottom)))


def parse_fractions(text: str, name: str, count: int) -> np.ndarray | None:
    """Parse `count` comma-separated numbers in [0, 1] as float32; None for empty text.

    Raises
    ------
    OptionError
        If the count or a value is wrong; the message begins with the option's `name`.
    """
    if not text.strip():
        return None
    try:
        values = np.array([float(part) for part in text.split(",")], np.float32)
    except ValueError:
        values = np.array([], np.float32)
    if len(values) != count or not ((values >= 0) & (values <= 1)).all():
        raise OptionError(f"{name} is {printable(text, 60)!r}; it must be {count} numbers from 0 to 1, separated by commas.")
    return values


def parse_box(text: str) -> np.ndarray | None:
    """Parse the option `BOX` as float32 (left, top, right, bottom) in [0, 1]; None for empty text.

    Raises
    ------
    OptionError
        If the box is invalid or empty.
    """
    box = parse_fractions(text, "box", 4)
    if box is not None and (box[0] >= box[2] or box[1] >= box[3]):
        raise OptionError(f"box is {printable(text, 60)!r}; left must be less than right, and top less than bottom.")
    return box


def model_status(model: Model, settings: Settings) -> Status:
    """Return the status of a model on this machine; fast, and without network access."""
    if "torch" in model.engines and not torch_is_installed():
        return Status("unavailable", Message("not set up here", owner="; run pip install torch transformers"))
    try:
        # With "auto" everywhere some device always fits, and probing the devices takes a second.
        if (settings.device, settings.engine, settings.precision) != ("auto", "auto", "auto"):
            device.choose(settings, model.engines, model.architecture)
        if weights.present(model, settings):
            return READY
    except NotReadyError as error:
        return Status("unavailable", OwnerMessage(str(error), Message("not set up here")))
    if hub.offline(settings):
        advice = "; unset HF_HUB_OFFLINE to download them"
        text = Message("its weights ({size} MB) are not downloaded", owner=advice, size=model.megabytes)
        return Status("unavailable", text)
    if model.gated and not hub.token(settings):
        text = Message("its license has to be accepted first", owner=f"; accept it at {model.page} and set HF_TOKEN")
        return Status("licence", text)
    downloads = Message("downloads {size} MB on first use", size=model.megabytes)
    if model.gated:
        text = Message("{downloads}, after the license at {page} is accepted", downloads=downloads, page=model.page)
        return Status("download", text, brief=f"{model.megabytes} MB")
    return Status("download", downloads, brief=f"{model.megabytes} MB")
