"""Fast local provider for tests, photos for it, and the command line with it in a child process.

    python -m tests.disc LOG SECONDS batch IN OUT --provider disc

runs a command in which the provider takes SECONDS for each photo and appends the name of the photo to LOG.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from rmbg.billing.cost import Cost
from rmbg.cutout import Cutout
from rmbg.errors import ModelError, NoSubjectError
from rmbg.matting.foreground import finish
from rmbg.providers.base import Provider, ProviderInfo
from tests.servers.web import until


class Disc(Provider):
    """Provider whose matte is a disc in the center of every photo; black photos have no subject.

    Parameters
    ----------
    seconds : float
        Duration of a call.
    log : Path, optional
        File to which the name of each photo is appended.
    broken : sequence of str
        Names of photos for which a ModelError is raised.

    Attributes
    ----------
    calls : list of str
        Names of the photos so far.
    max_concurrent : int
        Maximum number of concurrent calls so far.
    gather : int
        Number of concurrent calls that the first ones wait for, for at most a minute.
    """

    info = ProviderInfo(
        id="disc",
        title="Disc",
        kind="local",
        model="a disc",
        license="",
        license_url="",
        pixels="The photo stays on this machine.",
    )

    def __init__(self, seconds: float = 0.0, log: Path | None = None, broken: Sequence[str] = ()) -> None:
        self.seconds, self.log, self.broken = seconds, log, broken
        self.calls: list[str] = []
        self.max_concurrent = self.gather = 0
        self._concurrent = 0
        self._lock = threading.Lock()

    def __reduce__(self):
        return Disc, (self.seconds, self.log, self.broken)

    def cut(self, photo, options, context):
        with self._lock:
            self.calls.append(photo.name)
            self._concurrent += 1
            self.max_concurrent = max(self.max_concurrent, self._concurrent)
        try:
            until(lambda: self.max_concurrent >= self.gather, 60)
            end = time.monotonic() + self.seconds
            while time.monotonic() < end:
                context.check()
                time.sleep(0.01)
            if self.log:
                with open(self.log, "ab", buffering=0) as file:
                    file.write(f"{photo.name}\n".encode())
            if photo.name in self.broken:
                raise ModelError("The network failed.")
            if photo.rgb.max() == 0:
                raise NoSubjectError("The photo is black.")
            y, x = np.mgrid[: photo.height, : photo.width]
            distance = np.hypot(x - photo.width / 2, y - photo.height / 2)
            matte, foreground = finish(photo, (distance < min(photo.width, photo.height) / 4).astype(np.float32))
            return Cutout(photo, matte, foreground, "disc", 0.25, Cost(None, "unknown"), "numpy", "cpu", notes=photo.notes)
        finally:
            with self._lock:
                self._concurrent -= 1


def save_photo(path: Path, number: int = 0, size: tuple[int, int] = (48, 36)) -> Path:
    """Write a small photo whose bytes depend on `number`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(number).integers(60, 120, (size[1], size[0], 3), dtype=np.uint8)
    pixels[size[1] // 3 : -(size[1] // 3), size[0] // 3 : -(size[0] // 3)] = (220, 40 + number % 200, 30)
    Image.fromarray(pixels).save(path)
    return path


def save_photos(folder: Path, count: int) -> Path:
    """Write `count` different photos to two folders below `folder`, and return `folder`."""
    for number in range(count):
        save_photo(folder / ("a" if number % 2 else "b/c") / f"{number:04d}.png", number)
    return folder


def results(folder: Path) -> list[str]:
    """Return the relative paths of all pictures in a folder of results."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png") if ".rmbg-batch" not in path.parts)


if __name__ == "__main__":
    from rmbg.__main__ import entry
    from rmbg.providers import PROVIDERS
    from tests import disc  # under this name, other processes can import the class

    PROVIDERS["disc"] = disc.Disc(float(sys.argv[2]), Path(sys.argv[1]))
    sys.argv[1:] = sys.argv[3:]
    os.environ.setdefault("RMBG_SHARED", "0")
    entry()
