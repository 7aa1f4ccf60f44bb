"""How a cutout is shown and saved: view, background, crop."""

from __future__ import annotations

from dataclasses import dataclass

from rmbg import compose
from rmbg.ui.session import Session
from rmbg.ui.upload import Upload

VIEWS = [("Cut-out", "cutout"), ("Mask", "mask"), ("Original", "original")]
BACKGROUNDS = [
    ("Transparent", "transparent"),
    ("Colour", "colour"),
    ("Gradient", "gradient"),
    ("Blur", "blur"),
    ("Picture", "image"),
]


@dataclass(frozen=True)
class Look:
    """How a cutout is shown and saved; changing it never asks a provider."""

    view: compose.View = "cutout"
    kind: str = "transparent"
    colour: str = "#ffffff"
    top: str = "#f8fafc"
    bottom: str = "#cbd5e1"
    image: Upload | None = None
    crop: bool = False
    margin: float = 5.0

    def background(self, session: Session, *, full: bool) -> compose.Background:
        """The background, at screen size or in full."""
        if self.kind == "colour":
            return compose.Background("colour", (compose.colour(self.colour),))
        if self.kind == "gradient":
            return compose.gradient(self.top, self.bottom)
        if self.kind == "blur":
            return compose.BLURRED
        if self.kind == "image" and self.image is not None:
            return compose.picture(self.image.path) if full else session.background(self.image.path)
        return compose.TRANSPARENT

    def margin_share(self) -> float | None:
        return self.margin / 100 if self.crop else None
