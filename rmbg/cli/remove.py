"""Remove the background of one picture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rmbg.cli import output
from rmbg.cli.options import (
    add_edge_arguments,
    add_finishing_arguments,
    parse_alpha_matting,
    parse_background_or_preset,
    parse_edges,
    parse_finishing,
)
from rmbg.cli.terminal import ProgressLine, read_photo
from rmbg.errors import OptionError, printable
from rmbg.images import encode
from rmbg.providers import find, open_model
from rmbg.remove import keep_if_paid, remove_background
from rmbg.render.picture import View
from rmbg.runtime import files
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings

#: Values of OUT that denote standard output.
STANDARD_OUTPUT = ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("input", metavar="IN", help="input picture, or - for standard input")
    parser.add_argument("output", metavar="OUT", help="output file, or - for standard output")
    add_result_arguments(parser)
    parser.add_argument(
        "--mask",
        metavar="FILE",
        help="use this mask instead of a provider: gray, white where the subject is, or with transparency",
    )
    parser.add_argument("--json", action="store_true", help="print a summary as one JSON object")


def add_result_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of the result, which ``remove`` and ``batch`` share."""
    parser.add_argument("--provider", default="auto", metavar="ID", help="see 'rmbg providers' (default: auto)")
    add_model_arguments(parser)
    parser.add_argument(
        "--background",
        metavar="WHAT",
        help="transparent (default, unless --canvas names a preset with a color), a color such as #ff8800, blur, "
        "gradient:#ffffff,#cccccc[,ANGLE], or a path of a picture",
    )
    parser.add_argument("--mask-only", action="store_true", help="write the mask, white on black, instead of the cutout")
    parser.add_argument(
        "--crop", type=float, metavar="MARGIN", help="crop to the subject, with a margin as a fraction of its longer side"
    )
    parser.add_argument(
        "--format", metavar="NAME", help="png, webp, webp-lossy, jpeg or avif (default: from the suffix of OUT)"
    )
    parser.add_argument("--quality", type=int, default=encode.QUALITY, metavar="N", help="quality of lossy formats, 1 to 100")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="option of the provider; may be repeated"
    )
    add_finishing_arguments(parser)
    add_edge_arguments(parser)


def add_model_arguments(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add ``--model`` and its options; `several` models are a list, and run beside the providers."""
    parser.add_argument(
        "--model",
        action="append" if several else "store",
        default=[] if several else None,
        metavar="MODEL",
        help=f"model of your own, {'beside the providers' if several else 'instead of a provider'}: FILE.safetensors, "
        f"FILE.onnx, a folder with one, or an id on the hub{'; may be repeated' if several else ''}",
    )
    parser.add_argument(
        "--model-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"setting of {'each ' if several else ''}--model, such as size=512 or mean=0.5,0.5,0.5; may be repeated",
    )
    parser.add_argument("--force", action="store_true", help="use --model even if it scores badly on the examples")


def run(arguments: argparse.Namespace, token: CancellationToken) -> None:
    settings = Settings.from_environ()
    output_format = _output_format(arguments)
    _check_target(arguments)
    options = parse_options(arguments.option)
    background, finishing = parse_background_or_preset(arguments, settings), parse_finishing(arguments)
    edges, alpha_matting = parse_edges(arguments), parse_alpha_matting(arguments)
    if arguments.mask is not None and (arguments.provider != "auto" or arguments.model or options):
        raise OptionError("--mask is used instead of a provider. Omit it, or omit --provider, --model and --option.")
    provider = find(open_provider(arguments, settings, token), settings, options).info
    photo = read_photo(arguments.input, settings)
    if arguments.crop is None and finishing.canvas is None:  # the size of a cropped result is not known in advance
        encode.check_size(output_format, photo.width, photo.height)
    token.begin(paid=provider.kind == "remote")
    cutout = remove_background(
        photo,
        provider.id,
        options,
        mask=None if arguments.mask is None else Path(arguments.mask),
        edges=edges,
        alpha_matting=alpha_matting,
        progress=ProgressLine(),
        cancelled=token.cancelled,
        settings=settings,
    )
    view: View = "mask" if arguments.mask_only else "cutout"
    with keep_if_paid([cutout], settings):
        pixels = cutout.render(background, view=view, crop=arguments.crop, finishing=finishing)
        data = encode.encode(pixels, output_format, quality=arguments.quality)
        if arguments.output in STANDARD_OUTPUT:
            output.write(data)
        else:
            files.write(arguments.output, data)
    if arguments.json:
        output.write_text(f"{json.dumps(cutout.summary())}\n")
    elif arguments.output not in STANDARD_OUTPUT:
        for note in cutout.notes:
            output.report(note)


def open_provider(arguments: argparse.Namespace, settings: Settings, token: CancellationToken) -> str:
    """Return the id of the provider of a command, which may be a model of ``--model``, see `open_models`."""
    if arguments.model is not None and arguments.provider != "auto":
        raise OptionError("--model is used instead of --provider. Omit one of them.")
    opened = open_models([] if arguments.model is None else [arguments.model], arguments, settings, token)
    return opened[0] if opened else arguments.provider


def open_models(
    models: Sequence[str], arguments: argparse.Namespace, settings: Settings, token: CancellationToken
) -> list[str]:
    """Open the models of ``--model`` with the options of a command, print their descriptions, and return their ids."""
    if not models and (arguments.model_option or arguments.force):
        raise OptionError("--model-option and --force need --model. Add it.")
    given: dict[str, Any] = parse_options(arguments.model_option, "--model-option")
    if arguments.force:
        given["force"] = True
    ids = []
    for model in models:
        line = ProgressLine(log=True)
        info = open_model(model, given, progress=line, cancelled=token.cancelled, settings=settings)
        line.clear()
        output.report(info.model)
        ids.append(info.id)
    return ids


def _output_format(arguments: argparse.Namespace) -> encode.Format:
    encode.check_quality(arguments.quality)
    if arguments.format:
        return encode.format_named(arguments.format)
    suffix = Path(arguments.output).suffix
    return encode.format_named(suffix) if suffix and arguments.output not in STANDARD_OUTPUT else encode.FORMATS["png"]


def _check_target(arguments: argparse.Namespace) -> None:
    """Raise an error if the output cannot be written, before slow or paid work begins."""
    if arguments.json and sys.stdout is None:
        raise OptionError("Standard output is closed. Redirect it, or omit --json.")
    if arguments.output in STANDARD_OUTPUT:
        if arguments.json:
            raise OptionError("--json and a picture cannot both be written to standard output. Pass a file name as OUT.")
        if sys.stdout is None:
            raise OptionError("Standard output is closed. Pass a file name as OUT.")
        if sys.stdout.isatty():
            raise OptionError("A terminal cannot display the picture. Pass a file name as OUT, or redirect the output.")
    else:
        files.check_writable(arguments.output)


def parse_options(pairs: list[str], argument: str = "--option") -> dict[str, str]:
    """Parse the values of ``--option NAME=VALUE``, or of another argument of this form."""
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise OptionError(f"{argument} {printable(pair, 60)!r} must have the form NAME=VALUE.")
        options[name] = value
    return options
