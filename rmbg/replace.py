"""Another background by a generative model: fal's Background Replace by BRIA.

Not a provider: what comes back are new pictures, not a matte, and each of them is paid for.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmbg import prices
from rmbg.cutout import Cost
from rmbg.errors import CancelledError, OptionError, RmbgError, ServiceError
from rmbg.http import Session
from rmbg.photo import Photo, open_photo
from rmbg.providers import fal
from rmbg.providers.base import Call, Option, ProviderInfo, never, silent
from rmbg.providers.remote import encoded, opened, paid
from rmbg.settings import Settings

ENDPOINT = "fal-ai/bria/background/replace"
SEEDS = 2**31 - 1

_PRICE = prices.PRICES["fal-replace"]

INFO = ProviderInfo(
    id="fal-replace",
    title="fal: Background Replace",
    kind="remote",
    model=ENDPOINT,
    licence="BRIA's Background Replace, trained on licensed pictures; commercial use is part of the price.",
    licence_url="https://fal.ai/models/fal-ai/bria/background/replace",
    pixels="Photo, reference picture and prompt are sent to fal.ai, which is told not to keep them.",
    price_usd=_PRICE.usd,
    price_basis=_PRICE.basis,
    price_seen=_PRICE.seen,
    seconds=10.0,
    supports=("generative",),
    options=(
        Option("negative_prompt", "Not in the picture", "text", "", "What should not be there."),
        Option("refine_prompt", "Refine the prompt", "bool", True, "fal rewrites the prompt before it is used."),
        Option("seed", "Seed", "text", "", f"0 to {SEEDS}: the same again with the same prompt. Empty: by chance."),
        Option("fast", "Fast", "bool", True, "The faster model."),
        Option("num_images", "Pictures", "int", 1, "Each is paid for.", 1, 4),
        *fal.OPTIONS,
    ),
    key_name="FAL_KEY",
)


@dataclass(frozen=True, eq=False)
class Replaced:
    """New pictures of one photo.

    Attributes
    ----------
    photo : Photo
        What went in.
    pictures : tuple of Photo
        What came out, in the order in which it came.
    seed : int or None
        What makes the same pictures again, if fal says it.
    seconds : float
    cost : Cost
        For all of them together.
    notes : tuple of str
    """

    photo: Photo
    pictures: tuple[Photo, ...]
    seed: int | None
    seconds: float
    cost: Cost
    notes: tuple[str, ...] = ()


def expected(options: Mapping[str, Any]) -> Cost:
    """What the pictures should cost together, by the price list."""
    return Cost(_PRICE.counted * int(options["num_images"]), "listed")


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
    """Put the subject of a picture before a background that is made up for it.

    Parameters
    ----------
    source : bytes, path, binary file object, PIL image, data URI or Photo
    prompt : str
        What the background should be.
    reference : like `source`, optional
        A picture that the background should be like. Exactly one of `prompt` and `reference` is given.
    options : mapping of str to value, optional
        Options of `INFO`; those left out have their defaults.
    key, progress, cancelled, settings
        As for `remove_background`.

    Returns
    -------
    Replaced

    Raises
    ------
    RmbgError
        One of the errors of ``rmbg.errors``, with a sentence on what was charged in spite of it.
    """
    started = time.perf_counter()
    settings = settings or Settings.from_environ()
    call = Call(settings, key, progress or silent, cancelled or never)
    checked = INFO.parse_options(options or {})
    prompt = prompt.strip()
    if bool(prompt) == (reference is not None):
        raise OptionError("Give either a prompt or a reference picture, and not both.")
    seed = parse_seed(checked["seed"])
    photo = open_photo(source, settings=settings)
    sent = encoded(photo)
    like = None if reference is None else encoded(open_photo(reference, settings=settings))
    cost = expected(checked)
    assert cost.usd is not None
    count = checked["num_images"]
    limit = max(settings.max_bytes, 4 * photo.width * photo.height) * 3 // 2 * count
    with paid(INFO.id, "fal", INFO.key_name, cost.usd, limit, call) as session:
        arguments = {
            "image_url": fal.image_url(session, sent, checked, call),
            **({"prompt": prompt} if like is None else {"ref_image_url": fal.image_url(session, like, checked, call)}),
            **{name: checked[name] for name in ("negative_prompt", "refine_prompt", "fast", "num_images", "sync_mode")},
            **({} if seed is None else {"seed": seed}),
        }
        body = fal.run(session, ENDPOINT, arguments, checked, call, _PRICE.counted, count).json()
        images = body.get("images")
        if not isinstance(images, list) or not images:
            raise ServiceError("fal says that it is done, but there are no pictures in its answer.")
        pictures, lost = _fetched(session, images[:count], photo.name, call)
    told = body.get("seed")
    return Replaced(
        photo=photo,
        pictures=pictures,
        seed=told if isinstance(told, int) else seed,
        seconds=time.perf_counter() - started,
        cost=session.cost or Cost(None, "unknown"),
        notes=_notes(photo, pictures, lost, count),
    )


def _fetched(session: Session, images: list[Any], name: str, call: Call) -> tuple[tuple[Photo, ...], int]:
    """The pictures that fal names, and how many could not be fetched: one that is gone does not lose the others.

    Raises
    ------
    RmbgError
        If all are lost, or the user stops.
    """
    pictures: list[Photo] = []
    fault: RmbgError | None = None
    for number, image in enumerate(images, start=1):
        try:
            picture = opened(fal.file_of(session, image, call), "fal", call.settings)
        except CancelledError:
            raise
        except RmbgError as error:
            fault = error
            continue
        pictures.append(dataclasses.replace(picture, name=f"{name}-{number}"))
    if not pictures and fault is not None:
        raise fault
    return tuple(pictures), len(images) - len(pictures)


def pixels(picture: Photo) -> np.ndarray:
    """A result as it is encoded: with its transparency, if it has any."""
    return picture.rgb if picture.alpha is None else np.dstack([picture.rgb, picture.alpha])


def parse_seed(text: str) -> int | None:
    """The seed, None for an empty one; OptionError if it is none."""
    text = text.strip()
    if not text:
        return None
    # The length first: Python refuses to read numbers of thousands of digits.
    if not (text.isascii() and text.isdigit()) or len(text.lstrip("0")) > len(str(SEEDS)) or int(text) > SEEDS:
        raise OptionError(f"seed is {text[:40]!r}; it must be a whole number from 0 to {SEEDS}.")
    return int(text)


def _notes(photo: Photo, pictures: tuple[Photo, ...], lost: int, wanted: int) -> tuple[str, ...]:
    notes = list(photo.notes)
    if lost:
        notes.append(f"{lost} of {len(pictures) + lost} pictures could not be fetched from fal.")
    if len(pictures) + lost < wanted:
        notes.append(f"fal sent {len(pictures) + lost} of {wanted} pictures.")
    sizes = {(p.width, p.height) for p in pictures} - {(photo.width, photo.height)}
    if sizes:
        width, height = sorted(sizes)[0]
        notes.append(f"fal sent {width} x {height} pixels for a photo of {photo.width} x {photo.height}.")
    return tuple(notes)
