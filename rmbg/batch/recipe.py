"""Settings of the results of a batch and their fingerprints."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmbg.billing.cost import Cost
from rmbg.billing.quote import Quote, quote
from rmbg.cutout import Cutout, edge_facts
from rmbg.images.encode import QUALITY, Format, check_size, encode
from rmbg.images.photo import Photo
from rmbg.matting.edges import UNCHANGED, AlphaMatting, EdgeSettings
from rmbg.matting.finish import finish
from rmbg.providers import Provider
from rmbg.providers.base import never_cancelled
from rmbg.render.backgrounds import CENTER, DOWN, TRANSPARENT, Background
from rmbg.render.finishing import UNFINISHED, Finishing
from rmbg.render.picture import View
from rmbg.settings import Settings


@dataclass(frozen=True, eq=False)
class Recipe:
    """Provider, options, rendering and format, the same for all photos of a batch.

    Attributes
    ----------
    provider : Provider
    options : mapping
        Complete options of the provider.
    form : Format
        Output format.
    background : Background
    view : str
    crop : float or None
    quality : int
        As for ``Cutout.save``.
    edges : EdgeSettings
    alpha_matting : AlphaMatting or None
        Applied to all mattes.
    finishing : Finishing
    """

    provider: Provider
    options: Mapping[str, Any]
    form: Format
    background: Background = TRANSPARENT
    view: View = "cutout"
    crop: float | None = None
    quality: int = QUALITY
    edges: EdgeSettings = UNCHANGED
    alpha_matting: AlphaMatting | None = None
    finishing: Finishing = UNFINISHED

    @property
    def paid(self) -> bool:
        """True if the provider is a remote service."""
        return self.provider.info.kind == "remote"

    @property
    def inference(self) -> str:
        """Fingerprint of the settings that determine the matte."""
        return inference_of(self.provider, self.options)

    @property
    def rendering(self) -> str:
        """Fingerprint of the settings that determine the file, given the matte."""
        background: Any = None
        if self.view == "cutout":
            image = self.background.image
            pixels = None if image is None else [image.shape, hashlib.sha256(image.tobytes()).hexdigest()]
            angle = [] if self.background.angle == DOWN else [self.background.angle]
            place = (self.background.fit, self.background.position)
            placed = [] if place == ("cover", CENTER) else [place]
            background = [self.background.kind, self.background.colors, pixels, *angle, *placed]
        # What is not set is left out, so that results of versions without it are kept.
        later = [facts for facts in (self.edge_facts, self._finishing_facts) if facts]
        return _fingerprint(self.form.id, self.quality if self.form.lossy else None, self.view, self.crop, background, *later)

    @property
    def _finishing_facts(self) -> dict[str, Any]:
        """What the finishing changes in the view."""
        facts = self.finishing.facts()
        return facts if self.view == "cutout" else {name: value for name, value in facts.items() if name == "canvas"}

    @property
    def edge_facts(self) -> dict[str, Any]:
        """Settings of the edge for the manifest and the summary."""
        return edge_facts(self.edges, self.alpha_matting)

    def quote(self, settings: Settings) -> Quote:
        """Return the expected price of one photo."""
        return quote(self.provider.info, self.options, settings)

    def check_photo(self, photo: Photo) -> None:
        """Raise OptionError if the format does not support the size of the photo; called before a paid call."""
        if self.crop is None and self.finishing.canvas is None:
            check_size(self.form, photo.width, photo.height)

    def encode(
        self, cutout: Cutout, cancelled: Callable[[], bool] = never_cancelled, settings: Settings | None = None
    ) -> bytes:
        """Render and encode a cutout; `settings` are by default those of the environment."""
        if self.alpha_matting is not None:
            cutout = cutout.refined(self.alpha_matting, cancelled=cancelled, environment=settings)
        pixels = cutout.cleaned(self.edges).render(self.background, view=self.view, crop=self.crop, finishing=self.finishing)
        return encode(pixels, self.form, quality=self.quality)

    def restore(self, photo: Photo, matte: np.ndarray, provider: Provider | None = None) -> Cutout:
        """Return a cutout of `provider`, by default that of the batch, from a cached matte, uint8 (H, W)."""
        alpha, foreground = finish(photo, matte.astype(np.float32) / np.float32(255), own_alpha_applied=True)
        name = (provider or self.provider).info.id
        return Cutout(photo, alpha, foreground, name, 0.0, Cost(None, "unknown"), notes=photo.notes)


def inference_of(provider: Provider, options: Mapping[str, Any]) -> str:
    """Fingerprint of a provider and its complete options."""
    return _fingerprint(provider.info.id, dict(options))


def _fingerprint(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()[:16]
