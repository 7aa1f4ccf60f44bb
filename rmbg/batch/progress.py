"""Progress of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from rmbg.batch.outcome import Outcome


@dataclass
class Progress:
    """Counters of a batch.

    Attributes
    ----------
    total : int
        Number of inputs.
    kept : int
        Inputs with a result of an earlier run.
    done : int
        Results of this run.
    failed : int
        Inputs without a result.
    seconds : float
        Elapsed time of this run.
    usd : Decimal
        Cost of this run in dollars; calls of unknown cost count with the reserved amount.
    machines : int
        Number of machines, for the cost of own hardware.
    halted : str
        Reason if the batch ended before all inputs were tried, otherwise empty.
    """

    total: int
    kept: int
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    usd: Decimal = Decimal(0)
    machines: int = 1
    halted: str = ""

    @property
    def left(self) -> int:
        """Number of inputs that have not been tried."""
        return self.total - self.kept - self.done - self.failed

    @property
    def rate(self) -> float:
        """Photos per second."""
        return (self.done + self.failed) / self.seconds if self.seconds else 0.0

    def add(self, outcome: Outcome) -> None:
        """Count the outcome of one input."""
        self.kept += outcome.unchanged
        self.done += outcome.state == "done" and not outcome.unchanged
        self.failed += outcome.state != "done"
