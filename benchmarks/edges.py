"""Edges: resampling of accurate mattes, and alpha matting of coarse ones, against exact mattes.

    python -m benchmarks.edges [resample] [matting] [memory] [vitmatte] [--photos FOLDER] [--every N] [--side PIXELS]

FOLDER has CATEGORY/im and CATEGORY/gt. ``resample`` reduces the truth to 512 pixels and brings it back, as the matte of a good
service. ``matting`` applies alpha matting to the built-in provider's matte, to that of a good service, and to the truth shifted
by three pixels. ``memory`` is alpha matting of 24 megapixels,
``vitmatte`` the same by ViTMatte with synthetic weights. Edge error is the mean error of alpha within 1 % of the diagonal
of the true edge; edge quality and IoU are those of the benchmark.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from rmbg.errors import NoSubjectError
from rmbg.images.photo import open_photo
from rmbg.matting.closed_form import refine_alpha
from rmbg.matting.edges import AlphaMatting
from rmbg.matting.guided_filter import upsample_guided
from rmbg.matting.matte import make_trimap, resample, resize
from rmbg.metrics import quality
from rmbg.providers.builtin import Builtin
from rmbg.settings import Settings
from tests.pictures import scene

PARTS = ("resample", "matting", "memory", "vitmatte")

#: Longest side of the matte of a simulated service, in pixels.
SERVICE_SIDE = 512

Table = dict[tuple[str, str], list[tuple[float, float, float]]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Edge error of resampling and alpha matting.")
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all by default")
    parser.add_argument("--photos", type=Path, default=Path(__file__).parents[1] / "examples")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="use every Nth photo of a category")
    parser.add_argument("--side", type=int, default=4096, help="reduce larger photos to this longest side")
    arguments = parser.parse_args()
    for part in arguments.parts or PARTS:
        {"resample": resampling, "matting": matting, "memory": memory, "vitmatte": vitmatte}[part](arguments)


def pairs(arguments: argparse.Namespace) -> list[tuple[str, Path, Path]]:
    """Category, photo and truth of each pair."""
    found = []
    for folder in sorted(path.parent for path in arguments.photos.glob("*/im")):
        for photo in sorted((folder / "im").iterdir())[:: arguments.every]:
            (truth,) = (folder / "gt").glob(f"{photo.stem}.*")
            found.append((folder.name, photo, truth))
    return found


def load(photo: Path, truth: Path, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Photo, uint8 (H, W, 3), and truth, float32 (H, W), at most `side` pixels."""
    image, gray = Image.fromarray(open_photo(photo).flattened()), Image.open(truth).convert("L")
    image.thumbnail((side, side), Image.Resampling.BOX)
    gray = gray.resize(image.size, Image.Resampling.BOX)
    return np.asarray(image), np.asarray(gray, np.float32) / 255


def reduced(truth: np.ndarray, side: int = SERVICE_SIDE) -> np.ndarray:
    """The truth at the size of a service's result, rounded to 8 bits."""
    scale = min(1.0, side / max(truth.shape))
    small = resample(truth, *(max(1, round(length * scale)) for length in truth.shape))
    return np.rint(small * 255) / np.float32(255)


def scores(matte: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Edge error, edge quality and IoU."""
    distance = ndimage.distance_transform_edt(~quality.boundary(truth > 0.5))
    band = distance <= max(2.0, 0.01 * float(np.hypot(*truth.shape)))
    return float(np.abs(matte - truth)[band].mean()), quality.edge(matte, truth) or 0.0, quality.iou(matte, truth)


def show(title: str, table: Table) -> None:
    print(f"{title}\n| category | method | photos | edge error | edge quality | IoU |\n|---|---|---|---|---|---|")
    for (category, method), rows in table.items():
        error, edge, iou = np.mean(rows, axis=0)
        print(f"| {category} | {method} | {len(rows)} | {error:.4f} | {edge:.1f} | {iou:.2f} |")


def resampling(arguments: argparse.Namespace) -> None:
    """Compare ways to enlarge the matte of a good service."""
    table: Table = defaultdict(list)
    for category, photo, path in pairs(arguments):
        rgb, truth = load(photo, path, arguments.side)
        small = reduced(truth)
        methods: dict[str, Callable[[], np.ndarray]] = {
            "bilinear": lambda m=small, t=truth: resize(m, *t.shape),
            "guided filter": lambda m=small, p=rgb: upsample_guided(m, p),
            "bicubic (used)": lambda m=small, t=truth: resample(m, *t.shape),
        }
        for name, run in methods.items():
            table[category, name].append(scores(run(), truth))
    show(f"Truth from {SERVICE_SIDE} pixels", table)


def matting(arguments: argparse.Namespace) -> None:
    """Compare three kinds of mattes with their alpha matting."""
    table: Table = defaultdict(list)
    provider, started, megapixels = Builtin(), 0.0, 0.0
    for category, photo, path in pairs(arguments):
        rgb, truth = load(photo, path, arguments.side)
        mattes = {"service": resample(reduced(truth), *truth.shape), "shifted": np.roll(truth, (3, 3), (0, 1))}
        try:
            mattes["built-in"] = provider.matte(rgb)[0]
        except NoSubjectError:
            print(f"no subject: {photo.name}")
        for kind, matte in mattes.items():
            table[category, kind].append(scores(matte, truth))
            before = time.perf_counter()
            refined = refine_alpha(rgb, matte, AlphaMatting())
            started, megapixels = started + time.perf_counter() - before, megapixels + truth.size / 1e6
            table[category, f"{kind}, alpha matting"].append(scores(refined, truth))
    show("Alpha matting", table)
    print(f"{started / megapixels:.1f} s a megapixel")


def memory(arguments: argparse.Namespace) -> None:
    """Measure alpha matting of 24 megapixels in closed form."""
    measure("closed form", lambda photo, alpha: refine_alpha(photo, alpha, AlphaMatting()))


def vitmatte(arguments: argparse.Namespace) -> None:
    """Measure alpha matting of 24 megapixels by ViTMatte; its speed does not depend on the weights."""
    from safetensors.torch import save_file
    from transformers import VitMatteForImageMatting

    from rmbg.inference.torch_runner import vitmatte_config
    from rmbg.inference.vitmatte import predict_alpha

    with tempfile.TemporaryDirectory() as folder:
        tensors = VitMatteForImageMatting(vitmatte_config()).state_dict()
        save_file({name: value.contiguous() for name, value in tensors.items()}, Path(folder) / "vitmatte.safetensors")
        settings = Settings.from_environ({"RMBG_WEIGHTS": folder, "RMBG_DATA": folder, "RMBG_DEVICE": "cpu"})
        measure("ViTMatte", lambda photo, alpha: predict_alpha(photo, make_trimap(alpha, AlphaMatting()), settings))


def measure(title: str, method: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    """Print seconds and peak memory of a method on 24 megapixels."""
    small, small_alpha, _, _ = scene(1000, 1500, soft=3)  # the scene itself needs gigabytes at full size
    photo = np.asarray(Image.fromarray(small).resize((6000, 4000), Image.Resampling.BICUBIC))
    alpha = resample(small_alpha, 4000, 6000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    started, used = time.perf_counter(), time.process_time()
    method(photo, alpha)
    seconds, cpu = time.perf_counter() - started, time.process_time() - used
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{title}, 24 megapixels: {seconds:.0f} s ({cpu:.0f} s of CPU), peak {peak:.2f} GB (before: {before:.2f} GB)")


if __name__ == "__main__":
    main()
