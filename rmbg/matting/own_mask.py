"""Reading of a mask that the user made."""

from __future__ import annotations

from typing import Any

import numpy as np

from rmbg.errors import OptionError, PhotoError
from rmbg.images.photo import open_photo
from rmbg.matting.matte import resample
from rmbg.message import Message
from rmbg.settings import Settings

#: Largest difference between the channels of a gray pixel, in levels; lossy formats change gray slightly.
GRAY_TOLERANCE = 12

#: Largest relative difference between the aspect ratios of mask and photo; masks of small networks are rounded to whole pixels.
RATIO_TOLERANCE = 0.02


def read_mask(source: Any, width: int, height: int, settings: Settings | None = None) -> np.ndarray:
    """Decode a mask and resize it to the photo's size.

    Parameters
    ----------
    source : bytes-like, path, binary file object, PIL image, data URI or Photo
        A gray picture, white where the subject is, or a picture with transparency, whose alpha is the mask.
    width, height : int
        Size of the photo.
    settings : Settings, optional
        Limits; by default those of the environment.

    Returns
    -------
    float32 array (H, W)
        In [0, 1].

    Raises
    ------
    PhotoError
        If the source is not a picture.
    OptionError
        If it has colors and no transparency, or another aspect ratio than the photo.
    """
    try:
        picture = open_photo(source, settings=settings)
    except PhotoError as error:
        raise PhotoError(Message("The mask cannot be read. {error}", error=str(error))) from None
    if abs(picture.width * height - picture.height * width) > RATIO_TOLERANCE * picture.height * width:
        raise OptionError(
            Message(
                "The mask has {mask_width} x {mask_height} pixels and the photo {width} x {height}. "
                "Give a mask with the aspect ratio of the photo.",
                mask_width=picture.width,
                mask_height=picture.height,
                width=width,
                height=height,
            )
        )
    if picture.alpha is not None:
        levels = picture.alpha
    elif int(np.ptp(picture.rgb, axis=2).max()) <= GRAY_TOLERANCE:
        levels = picture.rgb[..., 1]
    else:
        raise OptionError(
            Message("The mask has colors. Give a gray picture, white where the subject is, or one with transparency.")
        )
    matte = levels.astype(np.float32) / np.float32(255)
    return matte if matte.shape == (height, width) else resample(matte, height, width)
