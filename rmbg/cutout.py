"""What one provider made of one photo, and what it cost."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

import numpy as np

from rmbg.errors import OptionError
from rmbg.foreground import estimate_foreground
from rmbg.photo import Photo

Basis = Literal["charged", "listed", "estimated", "unknown"]


@dataclass(frozen=True)
class Cost:
    """US dollars for one image, and where the figure comes from.

    ``charged``: the service said so. ``listed``: its price list. ``estimated``: own hardware. ``unknown``: nobody said;
    then `usd` is None, never zero.
    """

    usd: Decimal | None
    basis: Basis

    def __post_init__(self) -> None:
        if self.basis not in get_args(Basis):
            raise OptionError(f"A cost is {', '.join(get_args(Basis))}, not {self.basis!r}.")
        if (self.usd is None) != (self.basis == "unknown"):
            raise OptionError("A cost without an amount is unknown, and an unknown cost has no amount.")

    def __str__(self) -> str:
        if self.usd is None:
            return "cost unknown"
        return f"{dollars(self.usd)} {self.basis}"


def dollars(usd: Decimal) -> str:
    """``$0.018``: at least two significant digits, at most eight decimals, never in exponent notation."""
    if usd == 0:
        return "$0"
    places = min(8, max(2, 1 - usd.adjusted()))
    text = f"{usd:.{places}f}"
    whole, _, fraction = text.partition(".")
    fraction = fraction.rstrip("0").ljust(2, "0")
    return f"${whole}.{fraction}"


@dataclass(frozen=True, eq=False)
class Cutout:
    """Immutable result of one provider on one photo; every picture that is shown or saved is derived from it.

    Attributes
    ----------
    photo : Photo
        What went in.
    matte : float32 array (H, W)
        Alpha in [0, 1] at the photo's size, the photo's own alpha multiplied in.
    foreground : uint8 array (H, W, 3)
        The subject's own colours: background light is taken out of the soft edge. Straight, not premultiplied.
    provider : str
        Id of the provider.
    seconds : float
        Wall time from photo to cutout.
    cost : Cost
        For this image.
    engine, device, precision : str
        What ran the network; empty for a remote service.
    notes : tuple of str
        What the user should know about this result.
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


def finish(photo: Photo, matte: np.ndarray, *, foreground: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The last steps that every provider shares.

    Parameters
    ----------
    photo : Photo
    matte : float array (H, W)
        Alpha in [0, 1] at the photo's size, as the provider sees it.
    foreground : uint8 array (H, W, 3), optional
        Colours, where the provider has decontaminated them itself; estimated from photo and matte otherwise.

    Returns
    -------
    matte : float32 (H, W)
        Clipped to [0, 1], the photo's own alpha multiplied in.
    foreground : uint8 (H, W, 3)
    """
    matte = np.clip(matte, 0.0, 1.0).astype(np.float32, copy=False)
    if foreground is None:
        foreground = estimate_foreground(photo.rgb, matte)
    if photo.alpha is not None:
        matte = matte * (photo.alpha.astype(np.float32) / np.float32(255))
    return matte, foreground
