"""Settings of an own model: from the files beside its weights, and from options."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from rmbg.errors import OptionError, printable, reason
from rmbg.inference.onnx_file import failure
from rmbg.runtime.files import read_toml

#: Settings of a model, in ``model.toml`` and as options.
OPTIONS = ("size", "mean", "std", "resampling", "minmax_normalize", "patch_order", "force")

#: Orders of image patches in the decoder of BiRefNet, see ``rmbg.inference.catalog.Model``.
PATCH_ORDERS: tuple[Literal["columns", "colors"], ...] = ("columns", "colors")

#: Files of transformers beside the weights.
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"

#: Input sizes of checkpoints are multiples of the smallest feature map.
MAX_SIZE, STRIDE = 4096, 32


def described(path: Path) -> dict[str, Any]:
    """Settings of a model that the files beside its weights state.

    Raises
    ------
    ModelError
        If one of these files is invalid.
    """
    folder = path.parent
    found: dict[str, Any] = {}
    config, preprocessor = _read_json(folder / CONFIG), _read_json(folder / PREPROCESSOR)
    toml = next((file for file in (path.with_suffix(".toml"), folder / "model.toml") if file.is_file()), None)
    try:
        if isinstance(config.get("image_size"), int):
            found["size"] = parse("size", config["image_size"])
        found |= {name: parse(name, value) for name, value in _preprocessing(preprocessor).items()}
    except OptionError as error:
        raise failure(path, f"has an invalid configuration: {error}") from None
    if toml is None:
        return found
    try:
        return found | {name: parse(name, value) for name, value in read_toml(toml).items()}
    except OptionError as error:
        raise failure(toml, f"is invalid: {error}") from None
    except (OSError, ValueError) as error:
        raise failure(toml, f"is not a TOML file ({reason(error)}). Correct or delete it.") from None


def parse(name: str, value: Any) -> Any:
    """Return the value of one of the `OPTIONS`, which may be given as text.

    Raises
    ------
    OptionError
        If there is no such option, or the value is invalid.
    """
    if name not in OPTIONS:
        raise OptionError(f"A model has no setting {printable(name, 40)!r}; it has {', '.join(OPTIONS)}.")
    shown = f"{name} is {printable(str(value), 60)!r}; it must be"
    if name in ("resampling", "patch_order"):
        choices = ("plain", "antialiased", "lanczos") if name == "resampling" else PATCH_ORDERS
        if value not in choices:
            raise OptionError(f"{shown} one of {', '.join(choices)}.")
        return value
    if name in ("minmax_normalize", "force"):
        known = {"true": True, "1": True, "false": False, "0": False}
        if str(value).lower() not in known:
            raise OptionError(f"{shown} true or false.")
        return known[str(value).lower()]
    numbers = _numbers(value)
    if name == "size":
        if len(numbers) != 1 or not numbers[0].is_integer() or not STRIDE <= numbers[0] <= MAX_SIZE:
            raise OptionError(f"{shown} a whole number from {STRIDE} to {MAX_SIZE}.")
        return int(numbers[0])
    triple = tuple(numbers * 3 if len(numbers) == 1 else numbers)
    if len(triple) != 3 or not all(map(math.isfinite, triple)) or (name == "std" and min(triple) <= 0):
        raise OptionError(f"{shown} three {'positive ' if name == 'std' else ''}numbers such as 0.5,0.5,0.5.")
    return triple


def _numbers(value: Any) -> list[float]:
    """Numbers of a list, of a text with commas, or of one number; empty if it is none of them."""
    values = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    try:
        return [float(one) for one in values if not isinstance(one, bool)]
    except (TypeError, ValueError):
        return []


def _preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in the configuration of an image processor of transformers."""
    found: dict[str, Any] = {}
    size = config.get("size") if config.get("do_resize", True) else None
    if isinstance(size, Mapping):
        sides = [size[name] for name in ("height", "width", "shortest_edge", "longest_edge") if name in size]
        if not sides or any(side != sides[0] for side in sides):
            raise OptionError(f"its size is {printable(str(dict(size)), 60)}; height and width must be equal.")
        size = sides[0]
    if size is not None:
        found["size"] = size
    if "resample" in config:  # a number of Pillow: 0 is the nearest neighbor, 1 is Lanczos
        found["resampling"] = next(
            (name for name, n in (("plain", 0), ("lanczos", 1)) if config["resample"] == n), "antialiased"
        )
    if "do_normalize" in config or "image_mean" in config:
        factor = config.get("rescale_factor", 1 / 255) if config.get("do_rescale", True) else 1
        scale = 255 * sum(_numbers(factor))
        if not scale > 0:
            raise OptionError(f"its rescale_factor is {printable(str(factor), 60)!r}; it must be a positive number.")
        normalizes = config.get("do_normalize", True)
        for name, neutral in (("mean", 0.0), ("std", 1.0)):
            values = _numbers(config.get(f"image_{name}", neutral) if normalizes else neutral)
            found[name] = [value / scale for value in values]  # here, those of values from 0 to 1
    return found


def _read_json(path: Path) -> dict[str, Any]:
    """Content of a JSON file; empty if there is none."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise failure(path, f"is not a JSON file ({reason(error)}). Correct or delete it.") from None
    return content if isinstance(content, dict) else {}
