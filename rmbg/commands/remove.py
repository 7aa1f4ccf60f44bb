"""Cut the subject out of one picture."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rmbg import compose, encode
from rmbg.commands.terminal import progress, read_photo
from rmbg.cutout import Cutout
from rmbg.errors import OptionError, printable
from rmbg.remove import remove_background
from rmbg.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help="a picture, or - for standard input")
    parser.add_argument("output", metavar="OUT", help="the file to write, or - for standard output")
    parser.add_argument("--provider", default="auto", metavar="ID", help="see 'rmbg providers' (default: auto)")
    parser.add_argument(
        "--background",
        default="transparent",
        metavar="WHAT",
        help="transparent (default), a colour such as #ff8800, blur, gradient:#ffffff,#cccccc, or the path of a picture",
    )
    parser.add_argument("--mask-only", action="store_true", help="write the mask, white on black, not the cut-out")
    parser.add_argument("--crop", type=float, metavar="MARGIN", help="crop to the subject, with this share of it as margin")
    parser.add_argument("--format", metavar="NAME", help="png, webp, webp-lossy, jpeg or avif (default: what OUT is called)")
    parser.add_argument("--quality", type=int, default=encode.QUALITY, metavar="N", help="1 to 100, for lossy formats")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the provider; may be repeated"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object about the result")


def run(arguments: argparse.Namespace) -> None:
    settings = Settings.from_environ()
    form = _format(arguments)
    _check_target(arguments)
    options = _options(arguments.option)
    background = compose.parse_background(arguments.background, settings=settings)
    photo = read_photo(arguments.input, settings)
    cutout = remove_background(photo, arguments.provider, options, progress=progress(), settings=settings)
    view: compose.View = "mask" if arguments.mask_only else "cutout"
    pixels = compose.render(cutout, background, view=view, crop=arguments.crop)
    data = encode.encode(pixels, form, quality=arguments.quality)
    if arguments.output == "-":
        sys.stdout.buffer.write(data)
    else:
        encode.write(arguments.output, data)
    if arguments.json:
        print(json.dumps(summary(cutout)))  # in ASCII: it can be written to a terminal of any encoding
    elif arguments.output != "-":
        for note in cutout.notes:
            print(f"rmbg: {note}", file=sys.stderr)


def summary(cutout: Cutout) -> dict[str, Any]:
    """What ``--json`` says about a cutout."""
    usd = cutout.cost.usd
    return {
        "provider": cutout.provider,
        "seconds": round(cutout.seconds, 3),
        "engine": cutout.engine,
        "device": cutout.device,
        "width": cutout.width,
        "height": cutout.height,
        "cost": {"usd": None if usd is None else float(usd), "basis": cutout.cost.basis},
        "notes": list(cutout.notes),
    }


def _format(arguments: argparse.Namespace) -> encode.Format:
    if not 1 <= arguments.quality <= 100:
        raise OptionError(f"--quality is {arguments.quality}; it must be between 1 and 100.")
    if arguments.crop is not None and not 0 <= arguments.crop <= 2:
        raise OptionError(f"--crop is {arguments.crop:g}; the margin must be between 0 and 2.")
    if arguments.format:
        return encode.format_named(arguments.format)
    suffix = Path(arguments.output).suffix
    return encode.format_named(suffix) if suffix and arguments.output != "-" else encode.FORMATS["png"]


def _check_target(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be written before anything slow or paid has begun."""
    if arguments.output == "-":
        if arguments.json:
            raise OptionError("--json and a picture cannot both go to standard output; name a file for OUT.")
        if sys.stdout is None:
            raise OptionError("Standard output is closed; name a file for OUT.")
        if sys.stdout.isatty():
            raise OptionError("A picture would fill the terminal; name a file for OUT or pipe the output on.")
    else:
        encode.check_writable(arguments.output)


def _options(pairs: list[str]) -> dict[str, str]:
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise OptionError(f"--option {printable(pair, 60)!r} must look like NAME=VALUE.")
        options[name] = value
    return options
