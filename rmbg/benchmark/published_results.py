"""Published results of other benchmarks, for orientation.

They come from other pictures and other formulas, so they are never shown in one table with measured results.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class PublishedResult:
    """Published result of one service.

    Attributes
    ----------
    title : str
    composite : int
        0 to 100.
    categories : dict of category to int
        Composite of each category.
    usd : Decimal
        Price of one picture, from the published price of 100,000.
    """

    title: str
    composite: int
    categories: dict[str, int]
    usd: Decimal


SOURCE = (
    "Runflow, “Background Removal Showdown: RMBG-2.0 vs SAM 2 vs Proprietary APIs”: 5,000 pictures (2,000 e-commerce, "
    "1,500 headshots, 1,500 creative), composite = 0.5 IoU + 0.3 edge quality + 0.2 transparency. The pictures and the "
    "formulas behind edge quality and transparency are not given."
)

PUBLISHED_RESULTS = (
    PublishedResult("Remove.bg API", 95, {"ecommerce": 96, "headshots": 95, "creative": 93}, Decimal("0.05")),
    PublishedResult("RMBG-2.0 on an A100", 93, {"ecommerce": 96, "headshots": 92, "creative": 89}, Decimal("0.0004")),
)
