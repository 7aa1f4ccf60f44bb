"""Result of one provider on one photo."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rmbg.billing.cost import Cost
from rmbg.images.encode import QUALITY, encode, format_named
from rmbg.images.photo import Photo
from rmbg.inference.vitmatte import predict_alpha
from rmbg.matting.edges import UNCHANGED, AlphaMatting, EdgeSettings
from rmbg.matting.foreground import SmoothColors
from rmbg.matting.retouch import Stroke, retouch
from rmbg.render.backgrounds import TRANSPARENT, Background, parse_background
from rmbg.render.finishing import UNFINISHED, Finishing
from rmbg.render.picture import View, render
from rmbg.runtime.files import write
from rmbg.runtime.telemetry import Timings
from rmbg.settings import Settings

#: Confidences below which the level is ``low``, and from which it is ``high``. ``benchmarks/confidence.py`` calibrates them.
LOW_CONFIDENCE, HIGH_CONFIDENCE = 0.80, 0.85

#: Value of ``Cutout.provider`` if the user gave the mask.
OWN_MASK = "own-mask"


@dataclass(frozen=True)
class Step:
    """One provider of a cascade.

    Attributes
    ----------
    provider : str
    state : {"accepted", "doubtful", "nothing", "failed", "skipped"}
        ``nothing``: no subject found. ``skipped``: not called.
    reason : str
        Explanation in one or two sentences.
    chosen : bool
        True for the provider whose answer is the result.
    seconds : float
    cost : Cost or None
        None if nothing was charged and nothing ran.
    confidence : float or None
        Predicted or estimated IoU with the true matte, in [0, 1]; None without a matte.
    """

    provider: str
    state: Literal["accepted", "doubtful", "nothing", "failed", "skipped"]
    reason: str
    chosen: bool = False
    seconds: float = 0.0
    cost: Cost | None = None
    confidence: float | None = None

    def summary(self) -> dict[str, Any]:
        """The step as a JSON object."""
        return {
            "provider": self.provider,
            "state": self.state,
            "chosen": self.chosen,
            "seconds": round(self.seconds, 3),
            "cost": None if self.cost is None else cost_facts(self.cost),
            "confidence": None if self.confidence is None else round(self.confidence, 3),
            "reason": self.reason,
        }


@dataclass(frozen=True, eq=False)
class Cutout:
    """Immutable result of one provider on one photo; every picture that is displayed or saved is rendered from it.

    Attributes
    ----------
    photo : Photo
        The input.
    matte : float32 array (H, W)
        Alpha in [0, 1] at the photo's size, the photo's own alpha multiplied in.
    foreground : uint8 array (H, W, 3)
        Straight colors of the subject, without the background's contribution to soft edges.
    provider : str
        Id of the provider, or `OWN_MASK`.
    seconds : float
        Wall time from photo to cutout.
    cost : Cost
        For this image.
    engine, device, precision : str
        Of the network on this machine; empty for a remote service.
    notes : tuple of str
        Messages to the user about this result.
    edges : EdgeSettings
        Applied to the provider's matte.
    alpha_matting : AlphaMatting or None
        Settings of the alpha matting that has been applied.
    confidence : float or None
        IoU with the true matte as predicted by the network, in [0, 1]; None for providers that do not predict it.
    steps : tuple of Step
        Providers of a cascade, in the order in which they were called; empty for other providers.
    timings : Timings or None
        Parts of `seconds` for networks on this machine; None for a service.
    """

    photo: Photo
    matte: np.ndarray
    foreground: np.ndarray
    provider: str
    seconds: float
    cost: Cost
    engine: str = ""
    device: str = ""
    precision: str = ""
    notes: tuple[str, ...] = ()
    edges: EdgeSettings = UNCHANGED
    alpha_matting: AlphaMatting | None = None
    confidence: float | None = None
    steps: tuple[Step, ...] = ()
    timings: Timings | None = None

    def __post_init__(self) -> None:
        size = self.photo.rgb.shape[:2]
        if self.matte.shape != size or self.matte.dtype != np.float32:
            raise ValueError(f"The matte is {self.matte.dtype} {self.matte.shape}, the photo {size}.")
        if self.foreground.shape != (*size, 3) or self.foreground.dtype != np.uint8:
            raise ValueError(f"The foreground is {self.foreground.dtype} {self.foreground.shape}, the photo {size}.")
        for array in (self.matte, self.foreground):
            array.setflags(write=False)

    @property
    def width(self) -> int:
        return self.photo.width

    @property
    def height(self) -> int:
        return self.photo.height

    @property
    def warm_seconds(self) -> float:
        """Seconds without download, load and queue, for comparisons and projections."""
        return self.seconds if self.timings is None else self.timings.warm

    @property
    def confidence_level(self) -> str:
        """``high``, ``medium`` or ``low``; empty if the confidence is unknown."""
        return confidence_level(self.confidence)

    @property
    def provisional(self) -> bool:
        """True if all answers of a cascade are doubtful and a step failed, so that a later call may give a better result."""
        states = {step.state for step in self.steps}
        return "failed" in states and "accepted" not in states

    def summary(self) -> dict[str, Any]:
        """Facts about this cutout as a JSON object, with the fields of ``--json``."""
        return {
            "provider": self.provider,
            "seconds": round(self.seconds, 3),
            "timings": None if self.timings is None else self.timings.summary(),
            "engine": self.engine,
            "device": self.device,
            "width": self.width,
            "height": self.height,
            "cost": cost_facts(self.cost),
            "confidence": None if self.confidence is None else round(self.confidence, 3),
            "notes": list(self.notes),
            **({"steps": [step.summary() for step in self.steps]} if self.steps else {}),
            **edge_facts(self.edges, self.alpha_matting),
        }

    def refined(
        self,
        settings: AlphaMatting,
        *,
        progress: Callable[[float | None, str], None] = lambda fraction, text: None,
        cancelled: Callable[[], bool] = lambda: False,
        environment: Settings | None = None,
    ) -> Cutout:
        """Compute alpha in the uncertain band by alpha matting and estimate the foreground again; no provider runs.

        Slow: seconds a megapixel. Translucent pixels of the photo keep their alpha.

        Parameters
        ----------
        settings : AlphaMatting
        progress : callable (fraction or None, text), optional
        cancelled : callable () -> bool, optional
        environment : Settings, optional
            Device and folders of a network; by default those of the environment.

        Raises
        ------
        CancelledError
            Once `cancelled` returns True.
        NotReadyError
            If the weights or the device of a network are not available.
        """
        # Deferred, as SciPy takes long to import.
        from rmbg.matting.closed_form import refine_alpha
        from rmbg.matting.foreground import finish
        from rmbg.matting.matte import make_trimap

        rgb = self.photo.flattened()
        if settings.method == "vitmatte":
            environment = environment or Settings.from_environ()
            trimap = make_trimap(self.matte, settings)
            matte = predict_alpha(rgb, trimap, environment, progress=progress, cancelled=cancelled)
        else:
            matte = refine_alpha(rgb, self.matte, settings, progress=progress, cancelled=cancelled)
        if self.photo.alpha is not None:
            matte = np.where(self.photo.alpha == 255, matte, self.matte)
        matte, foreground = finish(self.photo, matte, own_alpha_applied=True)
        return replace(self, matte=matte, foreground=foreground, alpha_matting=settings)

    def with_matte(self, matte: np.ndarray) -> Cutout:
        """Replace the matte, estimate the foreground again and multiply in the photo's own alpha; no provider runs.

        Parameters
        ----------
        matte : float array (H, W)
            Alpha in [0, 1] at the photo's size.

        Returns
        -------
        Cutout
            Without edge settings and alpha matting.
        """
        from rmbg.matting.foreground import finish

        matte, foreground = finish(self.photo, np.array(matte, np.float32))  # a copy: later changes have no effect
        return replace(self, matte=matte, foreground=foreground, edges=UNCHANGED, alpha_matting=None)

    def cleaned(self, edges: EdgeSettings, *, colors: SmoothColors | None = None) -> Cutout:
        """Apply edge settings to the matte and estimate the foreground again; no provider runs.

        Parameters
        ----------
        edges : EdgeSettings
        colors : SmoothColors, optional
            ``shared_colors`` of this cutout, to try several settings: faster, with a larger error of the foreground.

        Returns
        -------
        Cutout
            This cutout itself if `edges` has the defaults.
        """
        if edges == UNCHANGED:
            return self
        from rmbg.matting.cleanup import clean  # deferred, as SciPy takes long to import
        from rmbg.matting.foreground import finish

        matte = clean(self.matte, edges, self.photo.alpha)
        if colors is not None and edges.invert:
            colors = colors.inverted()
        matte, foreground = finish(self.photo, matte, own_alpha_applied=True, colors=colors)
        return replace(self, matte=matte, foreground=foreground, edges=edges)

    def retouched(self, strokes: Sequence[Stroke]) -> Cutout:
        """Apply the strokes of a brush; no provider runs.

        Parameters
        ----------
        strokes : sequence of Stroke
            In pixels of the photo, applied in this order: ``keep`` restores the photo with its own colors, ``erase`` makes it
            transparent.

        Returns
        -------
        Cutout
            This cutout itself without strokes.
        """
        if not strokes:
            return self
        matte, foreground = retouch(self.matte, self.foreground, self.photo.rgb, strokes, self.photo.alpha)
        return replace(self, matte=matte, foreground=foreground)

    def render(
        self,
        background: Background | str = TRANSPARENT,
        *,
        view: View = "cutout",
        crop: float | None = None,
        finishing: Finishing = UNFINISHED,
    ) -> np.ndarray:
        """Render this cutout on a background.

        Parameters
        ----------
        background : Background or str
            Behind the subject, for the view ``cutout``; a string is parsed by ``parse_background``.
        view : str
            ``cutout``, ``mask`` (white where the subject is) or ``original``.
        crop : float, optional
            Crop to the subject's bounding box with this fraction of its longer side as margin. By default nothing is cropped.
        finishing : Finishing
            Canvas with the subject fitted into it, for all views; shadows and outline, for the view ``cutout``.

        Returns
        -------
        uint8 array
            (H, W, 4) for a cutout on a transparent background, for a photo with alpha and for a photo on a canvas, (H, W) for a
            mask, (H, W, 3) otherwise. With a canvas, H and W are its size.

        Raises
        ------
        OptionError
            If `background` is a string that is not a background, or both a crop and a canvas are given.
        """
        if isinstance(background, str):
            background = parse_background(background)
        rgb, own = self.photo.rgb, self.photo.alpha
        return render(rgb, self.matte, self.foreground, background, view=view, crop=crop, alpha=own, finishing=finishing)

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        background: Background | str = TRANSPARENT,
        view: View = "cutout",
        crop: float | None = None,
        finishing: Finishing = UNFINISHED,
        format: str | None = None,
        quality: int = QUALITY,
    ) -> None:
        """Write this cutout to a file, atomically.

        Parameters
        ----------
        path : path
        background, view, crop, finishing
            As for `render`.
        format : str, optional
            ``png``, ``webp``, ``webp-lossy``, ``jpeg`` or ``avif``. By default the suffix of `path` selects it.
        quality : int
            1 to 100, for lossy formats.

        Raises
        ------
        OptionError
            If the format is unknown, or an option is out of range.
        OutputError
            If the file cannot be written.
        """
        chosen = format_named(format or Path(path).suffix or "png")
        write(path, encode(self.render(background, view=view, crop=crop, finishing=finishing), chosen, quality=quality))


def confidence_level(confidence: float | None) -> str:
    """Return a confidence as ``high``, ``medium`` or ``low``; empty if it is unknown."""
    if confidence is None:
        return ""
    return "low" if confidence < LOW_CONFIDENCE else "medium" if confidence < HIGH_CONFIDENCE else "high"


def edge_facts(edges: EdgeSettings, alpha_matting: AlphaMatting | None) -> dict[str, Any]:
    """Fields ``edges`` and ``alpha_matting`` of ``--json``; those without a change are missing."""
    facts: dict[str, Any] = {"edges": edges.changed()} if edges.changed() else {}
    if alpha_matting is None:
        return facts
    matting = asdict(alpha_matting)
    if "method" not in alpha_matting.changed():  # results of versions without it are kept
        del matting["method"]
    return facts | {"alpha_matting": matting}


def cost_facts(cost: Cost) -> dict[str, Any]:
    """Field ``cost`` of ``--json``."""
    return {"usd": None if cost.usd is None else float(cost.usd), "basis": cost.basis}
