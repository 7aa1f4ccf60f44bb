"""Run times of Gradio's queue, without the estimates that it derives from them."""

from __future__ import annotations

from collections import defaultdict

from gradio.block_function import BlockFunction
from gradio.queueing import ProcessTime


class NoEstimates(defaultdict[BlockFunction, ProcessTime]):
    """Mapping that contains no function, so that the page shows elapsed seconds without an expected total.

    Gradio's estimate is the mean of all earlier runs, of small and large photos and of all providers of a kind, so every other
    run exceeds it.
    """

    def __contains__(self, function: object) -> bool:
        return False
