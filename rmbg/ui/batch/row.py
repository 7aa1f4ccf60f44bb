"""State of one photo of a visitor's batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rmbg.batch.manifest import State
from rmbg.billing.cost import Cost
from rmbg.cutout import confidence_level


@dataclass(frozen=True)
class Row:
    """State of one photo, as the page and the API show it.

    Attributes
    ----------
    name : str
    state : str
        As in the manifest; ``new`` for a photo that waits.
    provider : str
        Id of the provider of the last attempt.
    inference : str
        Fingerprint of the provider and the options of the result.
    seconds : float
    cost : Cost or None
        Of all calls for this photo; None if there was none.
    confidence : float or None
    message : str
    systematic : bool
        True for a failure of the provider, which another one may not have.
    thumbnail, file : str
        Path of the thumbnail, and name of the result in the folder; empty without a result.
    """

    name: str
    state: State = "new"
    provider: str = ""
    inference: str = ""
    seconds: float = 0.0
    cost: Cost | None = None
    confidence: float | None = None
    message: str = ""
    systematic: bool = False
    thumbnail: str = ""
    file: str = ""

    @property
    def doubtful(self) -> bool:
        """True if another provider may have a better result."""
        return confidence_level(self.confidence) == "low" or self.state in ("nothing", "charged") or self.systematic

    def summary(self) -> dict[str, Any]:
        """Return the row as a JSON object, with the fields of ``--json`` and the name of the file in the archive."""
        usd = None if self.cost is None or self.cost.usd is None else float(self.cost.usd)
        return {
            "name": self.name,
            "state": self.state,
            "provider": self.provider,
            "seconds": round(self.seconds, 3),
            "cost": {"usd": usd, "basis": "" if self.cost is None else self.cost.basis},
            "confidence": None if self.confidence is None else round(self.confidence, 3),
            "message": self.message,
            "file": self.file,
        }


def add_costs(first: Cost | None, second: Cost | None) -> Cost | None:
    """Return the sum of the costs of two calls, with the basis of the second one; unknown if one of them is."""
    if first is None or second is None:
        return first or second
    if first.usd is None or second.usd is None:
        return Cost(None, "unknown")
    return Cost(first.usd + second.usd, second.basis)
