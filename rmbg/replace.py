"""Background replacement by a generative model: BRIA's Background Replace on fal.

It is not a provider, as its results are new pictures instead of a matte. Each picture is charged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmbg.billing import recovery
from rmbg.billing.cost import Cost
from rmbg.errors import CancelledError, OptionError, RmbgError, ServiceError, check_text
from rmbg.images.encode import FORMATS, encode
from rmbg.images.photo import Photo, open_photo
from rmbg.providers import fal
from rmbg.providers.base import Option, RequestContext, never_cancelled, no_progress
from rmbg.providers.remote import PaidCall, encode_photo, open_result, picture, service_info
from rmbg.runtime import telemetry
from rmbg.runtime.messages import Message
from rmbg.settings import Settings

ENDPOINT = "fal-ai/bria/background/replace"
MAX_SEED = 2**31 - 1

INFO = service_info(
    "fal-replace",
    title="fal: Background Replace",
    model=ENDPOINT,
    license="BRIA's Background Replace, trained on licensed pictures; the price includes commercial use.",
    license_url="https://fal.ai/models/fal-ai/bria/background/replace",
    pixels="Photo, reference picture and prompt are sent to fal.ai. The request disables their storage.",
    seconds=10.0,
    supports=("generative",),
    options=(
        Option("num_images", "Number of pictures", 1, "Each picture is charged.", 1, 4),
        Option("negative_prompt", "Contents to avoid", "", "For example: people, text."),
        Option("refine_prompt", "Improve the description", True, "fal rewrites the description before it is used."),
        Option("fast", "Faster model", True, "Switch off for the slower model with better quality.", advanced=True),
        Option(
            "seed",
            "Seed",
            "",
            Message("0 to {limit}. The same seed and description give the same picture. Empty: random.", limit=MAX_SEED),
            advanced=True,
        ),
        *fal.OPTIONS,
    ),
    key_name="FAL_KEY",
)


@dataclass(frozen=True, eq=False)
class Replaced:
    """Pictures with replaced backgrounds for one photo.

    Attributes
    ----------
    photo : Photo
        Input.
    pictures : tuple of Photo
        Results, in the order of the response.
    seed : int or None
        Seed that reproduces the pictures, if known.
    seconds : float
        Run time.
    cost : Cost
        Total of all pictures.
    notes : tuple of str
    """

    photo: Photo
    pictures: tuple[Photo, ...]
    seed: int | None
    seconds: float
    cost: Cost
    notes: tuple[str, ...] = ()

    @contextlib.contextmanager
    def kept(self, settings: Settings) -> Iterator[None]:
        """Save the pictures in the recovery folder if the block, which delivers them, fails; OutputError states their paths."""

        def files() -> dict[str, bytes]:
            return {f"{picture.name}.png": encode(pixels(picture), FORMATS["png"]) for picture in self.pictures}

        with recovery.kept(files, self.cost, settings):
            yield


def replace_background(
    source: Any,
    prompt: str = "",
    reference: Any = None,
    options: Mapping[str, Any] | None = None,
    *,
    key: str | None = None,
    progress: Callable[[float | None, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
    settings: Settings | None = None,
) -> Replaced:
    """Replace the background of a picture by a generated one.

    Parameters
    ----------
    source : bytes, path, binary file object, PIL image, data URI or Photo
    prompt : str
        Description of the background.
    reference : like `source`, optional
        Picture of a similar background. Exactly one of `prompt` and `reference` is required.
    options : mapping of str to value, optional
        Options of `INFO`. Missing ones have their defaults.
    key, progress, cancelled, settings
        As for `remove_background`.

    Returns
    -------
    Replaced

    Raises
    ------
    RmbgError
        One of the errors of ``rmbg.errors``; after the start of the call its message ends with a sentence on the charge.
    """
    started = time.perf_counter()
    settings = settings or Settings.from_environ()
    context = RequestContext(settings, key, progress or no_progress, cancelled or never_cancelled)
    checked = INFO.parse_options(options or {})
    prompt = check_text(prompt, "The prompt").strip()
    if bool(prompt) == (reference is not None):
        raise OptionError("Give either a prompt or a reference picture, but not both.")
    seed = parse_seed(checked["seed"])
    photo = open_photo(source, settings=settings)
    encoded_photo = encode_photo(photo)
    encoded_reference = None if reference is None else encode_photo(open_photo(reference, settings=settings))
    count = checked["num_images"]
    limit = max(settings.max_bytes, 4 * photo.width * photo.height) * 3 // 2 * count
    with (
        telemetry.call(INFO.id) as call,
        PaidCall(INFO, "fal", checked, context, limit, fal.Fal.account) as service,
    ):
        arguments = {
            "image_url": fal.image_url(service, encoded_photo),
            **(
                {"prompt": prompt}
                if encoded_reference is None
                else {"ref_image_url": fal.image_url(service, encoded_reference)}
            ),
            **{name: checked[name] for name in ("negative_prompt", "refine_prompt", "fast", "num_images", "sync_mode")},
            **({} if seed is None else {"seed": seed}),
        }
        response = fal.run(service, ENDPOINT, arguments, count)
        images = response.json("images")
        if not isinstance(images, list) or not images:
            raise ServiceError("The response of fal has no pictures.")
        urls = [response.json("images", index, "url") for index in range(min(count, len(images)))]
        pictures, missing = _fetch_pictures(service, urls, photo.name)
        call.cost = service.cost
    reported_seed = response.json("seed")
    return Replaced(
        photo=photo,
        pictures=pictures,
        seed=reported_seed if isinstance(reported_seed, int) else seed,
        seconds=time.perf_counter() - started,
        cost=service.cost or Cost(None, "unknown"),
        notes=_notes(photo, pictures, missing, count),
    )


def _fetch_pictures(service: PaidCall, urls: list[Any], name: str) -> tuple[tuple[Photo, ...], int]:
    """Download the pictures of a response; a failed download does not discard the others.

    Returns
    -------
    pictures : tuple of Photo
    missing : int
        Number of failed downloads.

    Raises
    ------
    RmbgError
        If all downloads fail, or the user cancels.
    """
    pictures: list[Photo] = []
    last_error: RmbgError | None = None
    for number, url in enumerate(urls, start=1):
        try:
            result = open_result(picture(service, url), "fal", service.settings)
        except CancelledError:
            raise
        except RmbgError as error:
            last_error = error
            continue
        pictures.append(dataclasses.replace(result, name=f"{name}-{number}"))
    if not pictures and last_error is not None:
        raise last_error
    return tuple(pictures), len(urls) - len(pictures)


def pixels(picture: Photo) -> np.ndarray:
    """Return the pixels of a result for encoding: uint8 (H, W, 3), or (H, W, 4) if it has transparency."""
    return picture.rgb if picture.alpha is None else np.dstack([picture.rgb, picture.alpha])


def parse_seed(text: str) -> int | None:
    """Parse a seed; None if the text is empty.

    Raises
    ------
    OptionError
        If it is not a whole number from 0 to `MAX_SEED`.
    """
    text = text.strip()
    if not text:
        return None
    # The length is checked first, as int() raises ValueError above 4300 digits.
    if not (text.isascii() and text.isdigit()) or len(text.lstrip("0")) > len(str(MAX_SEED)) or int(text) > MAX_SEED:
        raise OptionError(f"seed is {text[:40]!r}; it must be a whole number from 0 to {MAX_SEED}.")
    return int(text)


def _notes(photo: Photo, pictures: tuple[Photo, ...], missing: int, requested: int) -> tuple[str, ...]:
    """Return the messages to the user on missing pictures and unexpected sizes."""
    notes = list(photo.notes)
    received = len(pictures) + missing
    if missing:
        notes.append(f"{missing} of {received} pictures could not be downloaded from fal.")
    if received < requested:
        notes.append(f"fal returned {received} of {requested} pictures.")
    sizes = {(p.width, p.height) for p in pictures} - {(photo.width, photo.height)}
    if sizes:
        width, height = min(sizes)
        notes.append(f"fal returned {width} x {height} pixels for a photo of {photo.width} x {photo.height}.")
    return tuple(notes)
