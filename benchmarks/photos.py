"""Photos of the benchmarks: one photo of a folder at several sizes, as JPEG files in the temporary folder."""

from __future__ import annotations

import hashlib
import io
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from rmbg.errors import NoSubjectError
from rmbg.images.photo import open_photo
from rmbg.remove import remove_background

FOLDER = Path(tempfile.gettempdir()) / "rmbg-benchmarks"
EXAMPLES = Path(__file__).parents[1] / "examples"
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")

#: Widths and heights by title. The sides of a photo are exchanged or scaled to its own ratio of sides.
MEGAPIXELS = {"1.5 MP": 1.5, "1.7 MP": 1.7, "6.3 MP": 6.3, "12 MP": 12.0, "24 MP": 24.0}


def photos(folder: Path) -> list[Path]:
    """Photos in a folder and its folders, without those of true mattes; a file is returned as it is."""
    if folder.is_file():
        return [folder]
    found = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.parent.name != "gt"]
    if not found:
        raise SystemExit(f"There are no photos in {folder}.")
    return found


@cache
def subject(folder: Path) -> tuple[Path, np.ndarray]:
    """First photo in which the built-in provider finds a subject, and its matte, float32 (H, W)."""
    for path in photos(folder):
        try:
            return path, remove_background(path, "builtin").matte
        except NoSubjectError:
            continue
    raise SystemExit(f"The built-in provider finds no subject in any photo of {folder}.")


def jpeg(title: str, folder: Path) -> Path:
    """JPEG file of the size `title` of the first photo with a subject; with noise, as a camera's photos have."""
    source, _ = subject(folder)
    path = FOLDER / f"{hashlib.sha256(source.read_bytes()).hexdigest()[:12]}-{title}.jpg"
    if not path.exists():
        rgb = open_photo(source).flattened()
        scale = (MEGAPIXELS[title] * 1e6 / (rgb.shape[0] * rgb.shape[1])) ** 0.5
        size = round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)
        pixels = np.asarray(Image.fromarray(rgb).resize(size, Image.Resampling.BICUBIC), dtype=np.int16)
        noise = np.random.default_rng(0).integers(-6, 7, (size[1], size[0], 1), dtype=np.int16)
        out = io.BytesIO()
        Image.fromarray(np.clip(pixels + noise, 0, 255).astype(np.uint8)).save(out, "JPEG", quality=92)
        FOLDER.mkdir(parents=True, exist_ok=True)
        path.write_bytes(out.getvalue())
    return path


def matte(size: tuple[int, int], folder: Path) -> np.ndarray:
    """Matte of the photo as bytes, uint8 (height, width), for networks with synthetic weights."""
    small = Image.fromarray(np.rint(subject(folder)[1] * 255).astype(np.uint8))
    return np.asarray(small.resize(size, Image.Resampling.BICUBIC))
