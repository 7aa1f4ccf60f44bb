"""Training pairs: decoded once from tar shards or a folder, cached as squares in a memory-mapped file.

The input of the network is the whole picture resized to a square, so the cache holds squares: uint8 (N, S, S, 4), RGB and mask.
A second array has the largest square without subject of each picture. These windows are the backgrounds of composites and the
examples without subject.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

GRID = 16  # cells a side of the grid on which empty windows are searched
MAX_SUBJECT = 0.002  # mean of the mask below which a cell is empty

#: Sets whose masks cover the gaps of their subjects. `train.gaps` turns them into trimaps, in which gray is unknown.
TRIMAPS = ("furn_", "ccp_")
UNKNOWN = 128


@dataclass(frozen=True)
class Pairs:
    """Pictures, masks and empty windows.

    Attributes
    ----------
    squares : ndarray, shape (N, S, S, 4), uint8
        RGB and mask (0 background, 255 subject).
    windows : ndarray, shape (N, 3), float32
        Left, top and side of the largest empty square of each picture, as fractions of its side; side 0 if none.
    names : list of str
    """

    squares: np.ndarray
    windows: np.ndarray
    names: list[str]

    def __len__(self) -> int:
        return len(self.names)

    def named(self, prefixes: tuple[str, ...], indices: np.ndarray) -> np.ndarray:
        """Whether the name of each of the given pictures has one of the prefixes: bool, shape of ``indices``."""
        return np.array([Path(self.names[index]).name.startswith(prefixes) for index in indices], bool)


def read_shards(folder: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield name, picture and mask of each pair in the ``*.tar`` files of a folder (WebDataset layout), undecoded."""
    for shard in sorted(folder.glob("*.tar")):
        incomplete: dict[str, dict[str, bytes]] = {}
        with tarfile.open(shard) as tar:
            for member in tar:
                if not member.isfile():
                    continue
                stem, _, suffix = member.name.rpartition(".")
                pair = incomplete.setdefault(stem, {})
                pair["mask" if suffix == "png" else "picture"] = tar.extractfile(member).read()
                if len(pair) == 2:
                    yield stem, pair["picture"], pair["mask"]
                    del incomplete[stem]


def read_folder(folder: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield name, picture and mask of each pair ``im/NAME.*`` and ``gt/NAME.png`` of a folder, undecoded."""
    for picture in sorted((folder / "im").iterdir()):
        yield picture.stem, picture.read_bytes(), (folder / "gt" / f"{picture.stem}.png").read_bytes()


def read_pairs(folder: Path) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield name, picture and mask of each pair in a folder of shards or of im and gt, undecoded."""
    return read_shards(folder) if any(folder.glob("*.tar")) else read_folder(folder)


def read_sources(folders: Sequence[Path]) -> Iterator[tuple[str, bytes, bytes]]:
    """Yield each pair of some folders, undecoded. A pair replaces one of the same name in an earlier folder."""
    seen: set[str] = set()
    for folder in reversed(folders):
        for name, picture, mask in read_pairs(folder):
            if name not in seen:
                seen.add(name)
                yield name, picture, mask


def decode(picture: bytes, mask: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Decode a pair: RGB, uint8 (H, W, 3), and mask, float32 (H, W) in [0, 1]."""
    truth = np.asarray(Image.open(io.BytesIO(mask)).convert("L"), np.float32) / 255
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")), truth


def to_square(picture: bytes, mask: bytes, side: int) -> np.ndarray:
    """Decode a pair and resize it: uint8 (side, side, 4), RGB and mask."""
    square = np.empty((side, side, 4), np.uint8)
    square[..., :3] = Image.open(io.BytesIO(picture)).convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    square[..., 3] = Image.open(io.BytesIO(mask)).convert("L").resize((side, side), Image.Resampling.BILINEAR)
    return square


def empty_window(mask: np.ndarray) -> tuple[float, float, float]:
    """Find the largest empty square of a mask.

    Parameters
    ----------
    mask : ndarray, shape (S, S), uint8, S a multiple of ``GRID``

    Returns
    -------
    tuple of float
        Left, top and side as fractions of S; the side is 0 if no cell is empty.
    """
    cell = mask.shape[0] // GRID
    empty = mask.reshape(GRID, cell, GRID, cell).mean(axis=(1, 3)) < MAX_SUBJECT * 255
    # Dynamic programming: the largest empty square that ends at a cell is one larger than the smallest of its three neighbors.
    side = np.zeros((GRID + 1, GRID + 1), np.int32)
    for row in range(GRID):
        for column in range(GRID):
            if empty[row, column]:
                side[row + 1, column + 1] = 1 + min(side[row, column], side[row, column + 1], side[row + 1, column])
    bottom, right = np.unravel_index(side.argmax(), side.shape)
    best = side[bottom, right]
    return (right - best) / GRID, (bottom - best) / GRID, best / GRID


def load_pairs(sources: Sequence[Path], cache: Path, side: int) -> Pairs:
    """Open the cached squares of sources, which are decoded first if there is no cache of them.

    Parameters
    ----------
    sources : sequence of Path
        Folders with tar shards or with ``im`` and ``gt``. A pair replaces one of the same name in an earlier folder.
    cache : Path
        Folder for the cache; created if missing.
    side : int
        Side of the squares, a multiple of ``GRID``.
    """
    index = cache / f"pairs-{side}.json"
    pixels = cache / f"pairs-{side}.u8"
    folders = [str(source.resolve()) for source in sources]
    metadata = json.loads(index.read_text()) if index.exists() else {}
    if metadata.get("sources") != folders:
        cache.mkdir(parents=True, exist_ok=True)
        index.unlink(missing_ok=True)  # it would describe other pictures if this is interrupted
        names, windows = [], []
        with pixels.open("wb") as file:
            for name, picture, mask in read_sources(sources):
                square = to_square(picture, mask, side)
                file.write(square.tobytes())
                names.append(name)
                windows.append([float(value) for value in empty_window(square[..., 3])])
        metadata = {"sources": folders, "names": names, "windows": windows}
        index.write_text(json.dumps(metadata))
    squares = np.memmap(pixels, np.uint8, "r", shape=(len(metadata["names"]), side, side, 4))
    return Pairs(squares, np.asarray(metadata["windows"], np.float32), metadata["names"])


def split(names: list[str], prefix: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Split indices into training and held out: ``count`` names with a prefix, selected by the hash of the name."""
    candidates = [index for index, name in enumerate(names) if Path(name).name.startswith(prefix)]
    candidates.sort(key=lambda index: hashlib.sha256(names[index].encode()).digest())
    held_out = np.array(sorted(candidates[:count]), np.int64)
    return np.setdiff1d(np.arange(len(names)), held_out), held_out
