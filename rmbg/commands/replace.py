"""Put the subject of one picture before a background made up by fal; each picture is paid for."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rmbg import encode
from rmbg.commands.terminal import progress, read_photo
from rmbg.errors import OptionError
from rmbg.replace import INFO, Replaced, pixels, replace_background
from rmbg.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help="a picture, or - for standard input")
    parser.add_argument("output", metavar="OUT", help="the file to write; of several pictures the later ones get a number")
    parser.add_argument("--prompt", default="", metavar="TEXT", help="what the background should be")
    parser.add_argument("--reference", metavar="PATH", help="a picture that the background should be like, instead of a prompt")
    for option in INFO.options:
        name = "--" + option.name.replace("_", "-")
        words = f"{option.title}. {option.help}" + (f" ({', '.join(option.choices)})" if option.choices else "")
        parser.add_argument(
            name,
            dest=f"option_{option.name}",
            default=None,
            metavar=option.kind.upper(),
            help=f"{words} Default: {option.default}",
        )
    parser.add_argument("--json", action="store_true", help="print one JSON object about the result")


def run(arguments: argparse.Namespace) -> None:
    settings = Settings.from_environ()
    target = Path(arguments.output)
    form = encode.format_named(target.suffix) if target.suffix else encode.FORMATS["png"]
    given = {option.name: getattr(arguments, f"option_{option.name}") for option in INFO.options}
    options = INFO.parse_options({name: value for name, value in given.items() if value is not None})
    if arguments.output == "-":
        raise OptionError("There may be several pictures; name a file for OUT.")
    names = [_numbered(target, number) for number in range(1, options["num_images"] + 1)]
    for name in names:  # before anything is paid for
        encode.check_writable(str(name))
    photo = read_photo(arguments.input, settings)
    reference = None if arguments.reference is None else Path(arguments.reference)
    replaced = replace_background(photo, arguments.prompt, reference, options, progress=progress(), settings=settings)
    written = names[: len(replaced.pictures)]
    for name, picture in zip(written, replaced.pictures, strict=True):
        encode.write(name, encode.encode(pixels(picture), form))
    if arguments.json:
        print(json.dumps(summary(replaced, written)))
    else:
        for note in replaced.notes:
            print(f"rmbg: {note}", file=sys.stderr)
        print(f"rmbg: {replaced.cost}, seed {replaced.seed}", file=sys.stderr)


def summary(replaced: Replaced, files: list[Path]) -> dict[str, Any]:
    """What ``--json`` says."""
    usd = replaced.cost.usd
    return {
        "provider": INFO.id,
        "seconds": round(replaced.seconds, 3),
        "files": [str(name) for name in files],
        "width": replaced.pictures[0].width,
        "height": replaced.pictures[0].height,
        "seed": replaced.seed,
        "cost": {"usd": None if usd is None else float(usd), "basis": replaced.cost.basis},
        "notes": list(replaced.notes),
    }


def _numbered(target: Path, number: int) -> Path:
    return target if number == 1 else target.with_name(f"{target.stem}-{number}{target.suffix}")
