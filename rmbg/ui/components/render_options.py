"""Rendering options of the Remove tab: view, background, crop."""

from __future__ import annotations

from dataclasses import dataclass

from rmbg.images.color import parse_color
from rmbg.render import backgrounds
from rmbg.render.picture import View
from rmbg.ui.components.photo_input import Upload
from rmbg.ui.session import Session

VIEWS = [("Cutout", "cutout"), ("Mask", "mask"), ("Original", "original")]
#: Colors of the swatches.
COLORS = [
    ("White", "#ffffff"),
    ("Black", "#000000"),
    ("Gray", "#9ca3af"),
    ("Red", "#dc2626"),
    ("Yellow", "#facc15"),
    ("Green", "#16a34a"),
    ("Blue", "#2563eb"),
]
BACKGROUNDS = [
    ("Transparent", "transparent"),
    *COLORS,
    ("Other color…", "color"),
    ("Gradient", "gradient"),
    ("Blur", "blur"),
    ("Picture", "image"),
]


@dataclass(frozen=True)
class RenderOptions:
    """Rendering options of a cutout. A change does not call the provider again.

    Attributes
    ----------
    kind : str
        A value of `BACKGROUNDS`: a kind, or the color of a swatch.
    color : str
        For the kind ``color``, and behind transparent parts in file formats without alpha.
    top, bottom : str
        Colors of a gradient.
    image : Upload or None
        For the kind ``image``.
    margin : float
        Around the subject, in percent of its longer side, if `crop`.
    """

    view: View = "cutout"
    kind: str = "transparent"
    color: str = "#ffffff"
    top: str = "#f8fafc"
    bottom: str = "#cbd5e1"
    image: Upload | None = None
    crop: bool = False
    margin: float = 5.0

    def background(self, session: Session, *, full: bool) -> backgrounds.Background:
        """Return the background; a picture at screen size unless `full`."""
        if self.kind == "color" or self.kind.startswith("#"):
            return backgrounds.Background("color", (parse_color(self.color if self.kind == "color" else self.kind),))
        if self.kind == "gradient":
            return backgrounds.gradient(self.top, self.bottom)
        if self.kind == "blur":
            return backgrounds.BLURRED
        if self.kind == "image" and self.image is not None:
            return backgrounds.picture(self.image.path) if full else session.background(self.image.path)
        return backgrounds.TRANSPARENT

    def crop_margin(self) -> float | None:
        """Return the margin as a fraction of the subject's size; None if the cutout is not cropped."""
        return self.margin / 100 if self.crop else None
