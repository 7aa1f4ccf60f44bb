"""Procedural subjects with exact alpha: hair, fur, leaves, wires, lattices, holes, signs, glass and smoke, at any size.

Subjects are the polygons of `train.shapes`, placed by a random similarity and rasterized with `SUPERSAMPLING` samples a pixel
and axis. Their alpha is the covered area, and the opacity of the material in glass and smoke.
The same seed gives the same subject at every size, up to noise.

    python -m train.procedural FOLDER                                       renders one picture of each kind
    python -m train.procedural FOLDER --count 300 --backgrounds PAIRS       300 of each kind on backgrounds of training pairs
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from scipy import ndimage

from train.augment import MIN_WINDOW
from train.data import GRID, decode, empty_window, read_pairs
from train.shapes import KINDS, Polygon

SUPERSAMPLING = 4

#: Pictures that are tried for a background without subject.
TRIALS = 3


def rasterize(polygons: Iterable[Polygon], matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    """Covered area of polygons after the affine map `matrix` (2, 3) to pixels: float32 (height, width)."""
    image = Image.new("L", (width * SUPERSAMPLING, height * SUPERSAMPLING))
    draw = ImageDraw.Draw(image)
    for points, alpha in polygons:
        mapped = (points @ matrix[:, :2].T + matrix[:, 2]) * SUPERSAMPLING
        draw.polygon(mapped.ravel().tolist(), fill=round(alpha * 255))
    return np.asarray(image.reduce(SUPERSAMPLING), np.float32) / 255


def placement(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Random similarity from [-1, 1] to the pixels of a picture: float (2, 3)."""
    scale = rng.uniform(0.3, 0.5) * min(height, width) * rng.choice((1.0, 1.0, 1.3))
    angle = rng.normal() * 0.2
    stretch = np.exp(rng.normal() * 0.1) * rng.choice((-1, 1))
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    x, y = width * (0.5 + rng.uniform(-0.12, 0.12)), height * (0.5 + rng.uniform(-0.12, 0.12))
    return np.array([[cos * stretch, -sin, x], [sin * stretch, cos, y]])


def noise(rng: np.random.Generator, height: int, width: int, octaves: int = 5, channels: int = 1) -> np.ndarray:
    """Fractal noise of mean 0 and deviation about 1: float32 (height, width, channels)."""
    total = np.zeros((height, width, channels), np.float32)
    for octave in range(octaves):
        cells = 3 * 2**octave
        for channel in range(channels):
            grid = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
            total[..., channel] += np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)) / 1.6**octave
    return total / 1.1


def colors(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Colors of a material, a base color with shading and texture: float32 (height, width, 3) in [0, 1]."""
    base = rng.uniform(0, 1, 3) if rng.random() < 0.5 else rng.uniform(0, 1) + rng.normal(size=3) * 0.05
    shading = noise(rng, height, width, 2) * rng.uniform(0.02, 0.12)
    texture = noise(rng, height, width, 7, 3) * rng.uniform(0.0, 0.05)
    return np.clip(base + shading + texture, 0, 1).astype(np.float32)


def render(
    rng: np.random.Generator, height: int, width: int, kind: str | None = None, picture: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Render a random subject.

    Parameters
    ----------
    rng : numpy.random.Generator
    height, width : int
        In pixels.
    kind : str, optional
        Of `KINDS`; random by default.
    picture : uint8 array (height, width, 3), optional
        Shown on signs, so that subjects in it are not those of the photo.

    Returns
    -------
    foreground : float32 array (height, width, 3)
        Straight colors in [0, 1], defined everywhere.
    alpha : float32 array (height, width)
        In [0, 1].
    """
    kind = kind or str(rng.choice(list(KINDS)))
    alpha = rasterize(KINDS[kind](rng), placement(rng, height, width), height, width)
    if kind == "smoke":
        density = ndimage.gaussian_filter(alpha, 0.04 * min(height, width))
        alpha = np.clip(density * (0.6 + 0.4 * noise(rng, height, width, 6)[..., 0]), 0, 1).astype(np.float32)
    foreground = colors(rng, height, width)
    if kind in ("glass", "smoke"):
        foreground = foreground * 0.4 + 0.6
    if kind == "sign" and picture is not None:
        foreground = picture.astype(np.float32) / 255
    return foreground, alpha


def compose(foreground: np.ndarray, alpha: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Blend a subject with a background, uint8 (H, W, 3), of its size: uint8 (H, W, 3)."""
    opacity = alpha[..., None]
    return np.rint((foreground * opacity + background / np.float32(255) * (1 - opacity)) * 255).astype(np.uint8)


def background_of(rgb: np.ndarray, mask: np.ndarray, side: int) -> Image.Image | None:
    """Largest part of a photo without its subject.

    Parameters
    ----------
    rgb : uint8 array (H, W, 3)
    mask : float32 array (H, W)
        In [0, 1].
    side : int
        Of the result, a square.

    Returns
    -------
    RGB image or None
        None if the subject leaves no large part.
    """
    cells = 18 * GRID
    grid = np.asarray(Image.fromarray((mask * 255).astype(np.uint8)).resize((cells, cells), Image.Resampling.BOX))
    left, top, extent = empty_window(grid)
    if extent < MIN_WINDOW:
        return None
    height, width = rgb.shape[:2]
    box = (left * width, top * height, (left + extent) * width, (top + extent) * height)
    return Image.fromarray(rgb).resize((side, side), Image.Resampling.BICUBIC, box=box)


def draw_background(pictures: Iterable[tuple[np.ndarray, np.ndarray]], side: int, rng: np.random.Generator) -> np.ndarray:
    """Background of the first of a few photos and masks that has a large one, or a synthetic one: uint8 (side, side, 3).

    Half of the photos are put out of focus.
    """
    for rgb, mask in pictures:
        found = background_of(rgb, mask, side)
        if found is not None:
            blur = ImageFilter.GaussianBlur(rng.uniform(1, 8)) if rng.random() < 0.5 else None
            return np.asarray(found.filter(blur) if blur else found)
    return np.rint(colors(rng, side, side) * 255).astype(np.uint8)


def draw_pictures(
    pairs: Sequence[tuple[str, bytes, bytes]], rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Random photos, uint8 (H, W, 3), and masks, float32 (H, W), of pairs that are not decoded."""
    for _ in range(TRIALS if pairs else 0):
        _, picture, mask = pairs[int(rng.integers(len(pairs)))]
        yield decode(picture, mask)


def main() -> None:
    """Render pictures of each kind to a folder, as training pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=768)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=1, help="pictures of each kind")
    parser.add_argument("--backgrounds", type=Path, help="training pairs that backgrounds and pictures on signs are taken from")
    arguments = parser.parse_args()
    side = arguments.side
    pairs = list(read_pairs(arguments.backgrounds)) if arguments.backgrounds else []
    for name in ("im", "gt"):
        (arguments.folder / name).mkdir(parents=True, exist_ok=True)
    for index, kind in enumerate(KINDS):
        for number in range(arguments.count):
            rng = np.random.default_rng((arguments.seed, index, number))
            pictures = draw_pictures(pairs, rng) if kind == "sign" else ()
            shown = next((np.asarray(Image.fromarray(rgb).resize((side, side))) for rgb, _ in pictures), None)
            foreground, alpha = render(rng, side, side, kind, shown)
            background = draw_background(draw_pictures(pairs, rng), side, rng)
            name = kind if arguments.count == 1 else f"procedural_{kind}{number}"
            Image.fromarray(compose(foreground, alpha, background)).save(arguments.folder / "im" / f"{name}.webp", quality=92)
            Image.fromarray(np.rint(alpha * 255).astype(np.uint8)).save(arguments.folder / "gt" / f"{name}.png")


if __name__ == "__main__":
    main()
