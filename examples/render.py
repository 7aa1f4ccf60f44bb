"""Render the example pictures and their exact mattes.

pip install "bpy==4.5.*" pillow
python examples/render.py            # all of them
python examples/render.py teapot vase --scale 50 --samples 16
"""

import argparse
import tempfile
import time
from pathlib import Path

import bpy
import creative
import ecommerce
import headshots
from studio import render_matte, render_picture

HERE = Path(__file__).resolve().parent
CATEGORIES = {"creative": creative, "ecommerce": ecommerce, "headshots": headshots}
PICTURE_SAMPLES = 24
MATTE_SAMPLES = 48  # coverage of an opaque subject
GLASS_SAMPLES = 160  # alpha of glass is an average over refracted and reflected paths


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="pictures to render; by default all")
    parser.add_argument("--out", type=Path, default=HERE, help="folder that receives <category>/im and <category>/gt")
    parser.add_argument("--scale", type=int, default=100, help="percent of the full size, for a preview")
    parser.add_argument("--samples", type=int, default=PICTURE_SAMPLES, help="samples a pixel of the picture")
    args = parser.parse_args()
    known = {name for module in CATEGORIES.values() for name in module.SCENES}
    if unknown := set(args.names) - known:
        parser.error(f"unknown pictures: {', '.join(sorted(unknown))}; choose from {', '.join(sorted(known))}")

    for category, module in CATEGORIES.items():
        for name, build in module.SCENES.items():
            if args.names and name not in args.names:
                continue
            start = time.monotonic()
            build()
            bpy.context.scene.render.resolution_percentage = args.scale
            glass = name in module.GLASS
            matte_samples = GLASS_SAMPLES if glass else MATTE_SAMPLES
            with tempfile.TemporaryDirectory() as scratch:
                render_picture(args.out / category / "im" / f"{name}.jpg", args.samples, scratch)
                render_matte(args.out / category / "gt" / f"{name}.png", matte_samples, scratch, glass)
            print(f"{category}/{name}: {time.monotonic() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
