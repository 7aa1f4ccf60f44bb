"""The command line with the provider `disc`, whose batches run in two processes, for tests that start it."""

from __future__ import annotations

import sys
from pathlib import Path

from rmbg.batch import pipeline, processes
from rmbg.batch.processes import PhotoProcess
from tests.disc import Disc
from tests.servers.web import until


class Ready(PhotoProcess):
    """A process that is ready when it is used for the first time."""

    def __init__(self, recipe, settings):
        super().__init__(recipe, settings)
        assert until(lambda: self.ready, 120)


class SmallDisc(Disc):
    """`Disc` with a small network."""

    small_network = True

    def __reduce__(self):
        return SmallDisc, (self.seconds, self.log, self.broken)


def use_two_cores() -> None:
    """Let batches of any number of photos run in two processes."""
    pipeline.MIN_PHOTOS = 2
    pipeline.PhotoProcess = Ready
    pipeline.cpu_count = processes.cpu_count = lambda: 2


if __name__ == "__main__":
    from rmbg.__main__ import entry
    from rmbg.providers import PROVIDERS
    from tests.batch import two_processes  # under this name, other processes can import the class

    two_processes.use_two_cores()
    PROVIDERS["disc"] = two_processes.SmallDisc(float(sys.argv[2]), Path(sys.argv[1]))
    sys.argv[1:] = sys.argv[3:]
    entry()
