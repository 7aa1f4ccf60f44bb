"""API endpoint and MCP tool ``replace_background``; its name and parameters are stable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gradio as gr

from rmbg.billing.quote import estimate
from rmbg.cancellation import CancellationToken
from rmbg.cutout import cost_facts
from rmbg.errors import OptionError, RmbgError
from rmbg.images import encode
from rmbg.replace import INFO, Replaced, pixels, replace_background
from rmbg.settings import Settings
from rmbg.ui.api.endpoint import IMAGE_HELP, NO_IMAGE, Caller, FileParameter, Parameter, add
from rmbg.ui.components.photo_input import photo_input
from rmbg.ui.lanes import SERVICES
from rmbg.ui.messages import page_error
from rmbg.ui.payload import CheckedBlocks
from rmbg.ui.storage import storage

PARAMETERS: tuple[Parameter | FileParameter, ...] = (
    FileParameter("image", lambda: photo_input(label="image"), IMAGE_HELP),
    Parameter("prompt", "", "Description of the new background, such as: on a wooden table."),
    FileParameter(
        "reference",
        lambda: photo_input(label="reference"),
        "Picture with a similar background, given as the image is, instead of a prompt.",
        required=False,
    ),
    Parameter("format", "png", "png, webp, webp-lossy, jpeg or avif."),
    Parameter("confirm_paid", False, "Consent to the charge; the call is always paid."),
    *(Parameter(option.name, option.default, f"{option.title}. {option.help}".strip()) for option in INFO.options),
)


def build(app: CheckedBlocks) -> None:
    """Add the endpoint."""
    outputs = (lambda: gr.JSON(label="summary"), lambda: gr.File(label="files", file_count="multiple"))
    add(app, replace, PARAMETERS, outputs, name="replace_background", tool="replace_background")


async def replace(values: Mapping[str, Any], caller: Caller) -> tuple[dict[str, Any], list[str]]:
    """Replace the background of a picture by one that a model of fal generates. Each picture is charged.

    Returns
    -------
    A summary with seconds, seed, cost and notes, and the files of the pictures.
    """
    image, reference = values["image"], values["reference"]
    if image is None:
        raise page_error(NO_IMAGE)
    token = CancellationToken()
    try:
        settings = Settings.from_environ()
        given = {option.name: values[option.name] for option in INFO.options if values[option.name] is not None}
        options = INFO.parse_options(given)
        form = encode.format_named(values["format"])
        charge = estimate([(INFO, options["num_images"])], settings)
        if not values["confirm_paid"]:
            raise OptionError(f"This is expected to cost {charge}. Set confirm_paid to true to accept the cost.")
        key = caller.key(INFO)

        def work() -> tuple[dict[str, Any], list[str]]:
            photo = image.open()
            encode.check_size(form, photo.width, photo.height)
            replaced = replace_background(
                photo,
                values["prompt"],
                None if reference is None else reference.open(),
                options,
                key=key,
                cancelled=token.cancelled,
                settings=settings,
            )
            with replaced.kept(settings):
                return _summary(replaced), [_store(replaced, number, form) for number in range(len(replaced.pictures))]

        return await SERVICES.run(token, work)
    except RmbgError as error:
        raise page_error(error) from None
    finally:
        for upload in (image, reference):
            if upload is not None:
                upload.release()


def _store(replaced: Replaced, number: int, form: encode.Format) -> str:
    picture = replaced.pictures[number]
    return storage().store(encode.encode(pixels(picture), form), f"{picture.name}{form.suffix}", seconds=storage().keep_seconds)


def _summary(replaced: Replaced) -> dict[str, Any]:
    return {
        "provider": INFO.id,
        "seconds": round(replaced.seconds, 3),
        "seed": replaced.seed,
        "cost": cost_facts(replaced.cost),
        "notes": list(replaced.notes),
    }
