"""API endpoint and MCP tool ``remove_background``; its name and parameters are stable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio.to_thread
import gradio as gr

from rmbg.batch.recipe import Recipe
from rmbg.cancellation import CancellationToken
from rmbg.errors import RmbgError
from rmbg.matting.edges import UNCHANGED
from rmbg.providers.delivery import keep_if_paid
from rmbg.remove import remove_background
from rmbg.settings import Settings
from rmbg.ui.api.endpoint import IMAGE_HELP, NO_IMAGE, Caller, FileParameter, add
from rmbg.ui.api.result import EDGES, FINISHING, FIRST, FURTHER, parse_recipe
from rmbg.ui.components.photo_input import Upload, photo_input
from rmbg.ui.lanes import DEVICE, SERVICES
from rmbg.ui.messages import page_error
from rmbg.ui.payload import CheckedBlocks
from rmbg.ui.storage import storage

IMAGE = FileParameter("image", lambda: photo_input(label="image"), IMAGE_HELP)

MASK = FileParameter(
    "mask",
    lambda: photo_input(label="mask"),
    "Mask that is used instead of a provider, given as the image is: gray, white where the subject is, or with transparency.",
    required=False,
)


def build(app: CheckedBlocks) -> None:
    """Add the endpoint."""
    later = (*FINISHING, *EDGES, *FURTHER, MASK)
    add(
        app,
        remove,
        (IMAGE, *FIRST, *later),
        [lambda: gr.File(label="file")],
        name="remove_background",
        tool="remove_background",
        optional=len(later),
    )


async def remove(values: Mapping[str, Any], caller: Caller) -> Any:
    """Remove the background of a picture, and put the subject on a new background if one is given.

    Returns
    -------
    The file of the result, at the size of the picture unless it is cropped or placed on a canvas.
    """
    image, picture, mask = values["image"], values["background_picture"], values["mask"]
    if image is None:
        raise page_error(NO_IMAGE)
    token = CancellationToken()
    try:
        settings = Settings.from_environ()
        recipe = await anyio.to_thread.run_sync(parse_recipe, values, settings)
        lane = DEVICE if mask is not None or recipe.provider.info.kind == "local" else SERVICES
        return await lane.run(token, _remove, image, mask, recipe, caller.key(recipe.provider.info), settings, token)
    except RmbgError as error:
        raise page_error(error) from None
    finally:
        for upload in (image, picture, mask):
            if upload is not None:
                upload.release()


def _remove(
    image: Upload, mask: Upload | None, recipe: Recipe, key: str | None, settings: Settings, token: CancellationToken
) -> str:
    photo = image.open()
    recipe.check_photo(photo)
    cutout = remove_background(
        photo,
        recipe.provider.info.id,
        recipe.options,
        key=key,
        mask=None if mask is None else Path(mask.path),
        edges=recipe.edges,
        alpha_matting=recipe.alpha_matting,
        cancelled=token.cancelled,
        settings=settings,
        device=DEVICE.turn,
    )
    with keep_if_paid([cutout], settings):
        name = f"{cutout.photo.name}-{recipe.view}{recipe.form.suffix}"
        return storage().store(
            replace(recipe, edges=UNCHANGED, alpha_matting=None).encode(cutout, token.cancelled),
            name,
            seconds=storage().keep_seconds,
        )
