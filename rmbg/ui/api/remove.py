"""API endpoint ``/remove_background``; its name and parameters are stable."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rmbg.cancellation import CancellationToken
from rmbg.errors import RmbgError
from rmbg.images import encode
from rmbg.providers import find
from rmbg.providers.delivery import keep_if_paid
from rmbg.remove import remove_background
from rmbg.render import backgrounds
from rmbg.render.finishing import Finishing
from rmbg.settings import Settings
from rmbg.ui.components.photo_input import Upload, photo_input
from rmbg.ui.lanes import DEVICE, SERVICES
from rmbg.ui.messages import page_error
from rmbg.ui.storage import storage

#: Concurrent calls of an endpoint; those that wait in a lane hold neither a thread nor a decoded photo.
API_AT_ONCE = 24


def build() -> None:
    """Add the endpoint with hidden components."""
    with gr.Row(visible=False):
        image = photo_input(label="image")
        provider = gr.Textbox("auto", label="provider")
        background = gr.Textbox("transparent", label="background")
        mask_only = gr.Checkbox(False, label="mask_only")
        form = gr.Textbox("png", label="format")
        finishing = [gr.Textbox("", label=name) for name in ("canvas", "padding", "shadow", "contact_shadow", "outline")]
        file = gr.File(label="file")
        gr.Button().click(
            remove_endpoint,
            [image, provider, background, mask_only, form, *finishing],
            file,
            api_name="remove_background",
            api_description=(remove_endpoint.__doc__ or "").splitlines()[0],
            concurrency_limit=API_AT_ONCE,
        )


async def remove_endpoint(
    image: Upload | None,
    provider: str = "auto",
    background: str = "transparent",
    mask_only: bool = False,
    format: str = "png",
    canvas: str = "",
    padding: str = "",
    shadow: str = "",
    contact_shadow: str = "",
    outline: str = "",
) -> Any:
    """Remove the background of a picture and return the file of the cutout, on a new background if one is given.

    Parameters
    ----------
    image : file
    provider : str
        Id of a provider, or auto.
    background : str
        transparent, a color, blur or gradient:#TOP,#BOTTOM.
    mask_only : bool
        Return the mask, white on black, instead of the cutout.
    format : str
        png, webp, webp-lossy, jpeg or avif.
    canvas : str
        WIDTHxHEIGHT or a preset such as square or passport, into which the subject is fitted; by default the size of the photo.
    padding : str
        Space around the subject on the canvas, such as 5% or 40px.
    shadow : str
        soft or X,Y,BLUR,OPACITY[,COLOR].
    contact_shadow : str
        soft or OPACITY[,BLUR[,COLOR]].
    outline : str
        WIDTH[,COLOR], such as 8px,#ffffff.
    """
    if image is None:
        raise gr.Error("The request has no picture. Pass one as image.", print_exception=False)
    token = CancellationToken()
    try:
        lane = DEVICE if find(provider).info.kind == "local" else SERVICES
        finishing = Finishing.parse(
            canvas=canvas, padding=padding, shadow=shadow, contact_shadow=contact_shadow, outline=outline
        )
        return await lane.run(token, _remove, image, provider, background, mask_only, format, finishing, token)
    except RmbgError as error:
        raise page_error(error) from None
    finally:
        image.release()


def _remove(
    image: Upload,
    provider: str,
    background: str,
    mask_only: bool,
    format: str,
    finishing: Finishing,
    token: CancellationToken,
) -> str:
    file_format = encode.format_named(format)
    # A path would give callers read access to pictures on the server's disk.
    parsed_background = backgrounds.parse_background(background, paths=False)
    settings = Settings.from_environ()
    photo = image.open()
    if finishing.canvas is None:
        encode.check_size(file_format, photo.width, photo.height)
    cutout = remove_background(photo, provider, cancelled=token.cancelled, settings=settings, device=DEVICE.turn)
    with keep_if_paid([cutout], settings):
        pixels = cutout.render(parsed_background, view="mask" if mask_only else "cutout", finishing=finishing)
        name = f"{cutout.photo.name}-{'mask' if mask_only else 'cutout'}{file_format.suffix}"
        return storage().store(encode.encode(pixels, file_format), name, seconds=storage().keep_seconds)
