"""Finishing of a cutout: canvas, shadows and outline."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from rmbg.errors import OptionError
from rmbg.matting.matte import bounding_box
from rmbg.render.canvas import Canvas, parse_canvas
from rmbg.render.layers import Layer
from rmbg.render.outline import Outline, outline, parse_outline
from rmbg.render.shadow import ContactShadow, Shadow, contact_shadow, drop_shadow, parse_contact_shadow, parse_shadow


@dataclass(frozen=True)
class Finishing:
    """Canvas, shadows and outline of a rendered cutout; by default nothing is changed.

    Attributes
    ----------
    canvas : Canvas or None
        The subject is placed on it; None for the size of the photo.
    shadow : Shadow or None
    contact_shadow : ContactShadow or None
    outline : Outline or None
        Behind the subject, also behind its translucent parts. It casts the shadow together with the subject.
    """

    canvas: Canvas | None = None
    shadow: Shadow | None = None
    contact_shadow: ContactShadow | None = None
    outline: Outline | None = None

    @classmethod
    def parse(
        cls,
        *,
        canvas: str = "",
        padding: str = "",
        scale: str = "",
        position: str = "",
        shadow: str = "",
        contact_shadow: str = "",
        outline: str = "",
    ) -> Finishing:
        """Parse the notation of the command line and the API; an empty text is the default.

        Parameters
        ----------
        canvas : str
            Id of a preset such as ``square``, or ``WIDTHxHEIGHT`` in pixels.
        padding : str
            Space around the subject, ``5%`` of the shorter side or ``40px``.
        scale : str
            Size of the subject in percent of the fitted one.
        position : str
            ``X,Y``: shift of the subject in percent of the canvas.
        shadow : str
            ``soft`` or ``X,Y,BLUR,OPACITY[,COLOR]``, for example ``0,4%,3%,40``.
        contact_shadow : str
            ``soft`` or ``OPACITY[,BLUR[,COLOR]]``.
        outline : str
            ``WIDTH[,COLOR]``, for example ``8px,#ffffff``.

        Raises
        ------
        OptionError
            If a text has another form or a value is out of range.
        """
        return cls(
            parse_canvas(canvas, padding, scale, position),
            parse_shadow(shadow),
            parse_contact_shadow(contact_shadow),
            parse_outline(outline),
        )

    def facts(self) -> dict[str, Any]:
        """Return what is set as a JSON object."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def check_crop(self, crop: float | None) -> None:
        """Raise OptionError if the margin `crop` is out of range, or given in addition to a canvas."""
        if crop is not None and not 0 <= crop <= 2:
            raise OptionError(f"The margin of the crop is {crop:g}; it must be between 0 and 2.")
        if crop is not None and self.canvas is not None:
            raise OptionError("Both a crop and a canvas are given. Use one of them; the canvas has a padding.")

    @property
    def effects(self) -> bool:
        """True if there is a shadow or an outline."""
        return not (self.shadow is None and self.contact_shadow is None and self.outline is None)


#: Finishing that changes nothing.
UNFINISHED = Finishing()


def effect_layers(finishing: Finishing, matte: np.ndarray) -> list[Layer]:
    """Return the layers behind the subject, from bottom to top.

    Parameters
    ----------
    finishing : Finishing
    matte : float32 array (H, W)
        Alpha of the subject at its final place.
    """
    box = bounding_box(matte)
    reference = max(box[0].stop - box[0].start, box[1].stop - box[1].start)
    silhouette, layers = matte, []
    if finishing.outline is not None:
        line = outline(matte, finishing.outline.width.pixels(reference))
        silhouette = np.maximum(matte, line)
        layers.append((np.array(finishing.outline.color, np.uint8), line))
    if finishing.contact_shadow is not None:
        ground = contact_shadow(matte, finishing.contact_shadow, box)
        layers.insert(0, (np.array(finishing.contact_shadow.color, np.uint8), ground))
    if finishing.shadow is not None:
        cast = drop_shadow(silhouette, finishing.shadow, reference)
        layers.insert(0, (np.array(finishing.shadow.color, np.uint8), cast))
    return layers
