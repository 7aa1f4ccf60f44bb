"""Changes that a visitor has made to a result."""

from __future__ import annotations

from dataclasses import dataclass, replace

from rmbg.matting.edges import UNCHANGED, EdgeSettings
from rmbg.matting.strokes import Stroke


@dataclass(frozen=True)
class Edits:
    """Changes that a visitor has made to a result: another mask, then a clean-up, then strokes of the brush.

    Attributes
    ----------
    base : str
        Prefix of the files of the mask and its foreground; empty for those of the provider.
    coarse : str
        Prefix of the mask that alpha matting was applied to; `base` without alpha matting.
    edges : EdgeSettings
    strokes : tuple of Stroke
    """

    base: str = ""
    coarse: str = ""
    edges: EdgeSettings = UNCHANGED
    strokes: tuple[Stroke, ...] = ()


def scaled_settings(edges: EdgeSettings, ratio: float) -> EdgeSettings:
    """Settings for a copy of the photo that is smaller by `ratio`."""
    return replace(
        edges,
        specks=round(edges.specks * ratio**2),
        holes=round(edges.holes * ratio**2),
        smooth=edges.smooth * ratio,
        shift=edges.shift * ratio,
        feather=edges.feather * ratio,
    )
