"""API endpoint ``/remove_background``; its name and parameters are stable."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import gradio as gr

from rmbg.cancellation import CancellationToken
from rmbg.errors import RmbgError
from rmbg.images import encode
from rmbg.matting.edges import UNCHANGED, EdgeSettings
from rmbg.providers import find
from rmbg.providers.delivery import keep_if_paid
from rmbg.remove import remove_background
from rmbg.render import backgrounds
from rmbg.render.finishing import Finishing
from rmbg.settings import Settings
from rmbg.ui.components import clean_up
from rmbg.ui.components.photo_input import Upload, photo_input
from rmbg.ui.lanes import DEVICE, SERVICES
from rmbg.ui.messages import page_error
from rmbg.ui.payload import CheckedBlocks
from rmbg.ui.storage import storage

NAME = "remove_background"

#: Concurrent calls of an endpoint; those that wait in a lane hold neither a thread nor a decoded photo.
API_AT_ONCE = 24


def build(app: CheckedBlocks) -> None:
    """Add the endpoint with hidden components."""
    with gr.Row(visible=False):
        image = photo_input(label="image")
        provider = gr.Textbox("auto", label="provider")
        background = gr.Textbox("transparent", label="background")
        mask_only = gr.Checkbox(False, label="mask_only")
        form = gr.Textbox("png", label="format")
        finishing = [gr.Textbox("", label=name) for name in ("canvas", "padding", "shadow", "contact_shadow", "outline")]
        edges = [_field(name, value) for name, value in asdict(UNCHANGED).items()]
        file = gr.File(label="file")
        gr.Button().click(
            remove_endpoint,
            [image, provider, background, mask_only, form, *finishing, *edges],
            file,
            api_name=NAME,
            api_description=(remove_endpoint.__doc__ or "").splitlines()[0],
            concurrency_limit=API_AT_ONCE,
        )
    app.optional[NAME] = len(finishing) + len(edges)


def _field(name: str, value: bool | float) -> gr.Checkbox | gr.Number:
    """Hidden component of an edge setting, whose value is its default."""
    if isinstance(value, bool):
        return gr.Checkbox(value, label=name)
    return gr.Number(value, label=name, precision=0 if isinstance(value, int) else None)


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
    largest: bool = False,
    specks: int = 0,
    holes: int = 0,
    smooth: float = 0,
    shift: float = 0,
    feather: float = 0,
    invert: bool = False,
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
    largest : bool
        Keep the largest region only.
    specks : int
        Remove regions of fewer pixels.
    holes : int
        Fill holes of fewer pixels.
    smooth : float
        Straighten a jagged outline, 0 to 50 pixels.
    shift : float
        Move the edge outward, or inward if negative, -50 to 50 pixels.
    feather : float
        Soften the edge, 0 to 100 pixels.
    invert : bool
        Keep the background and remove the subject.
    """
    if image is None:
        raise gr.Error("The request has no picture. Pass one as image.", print_exception=False)
    token = CancellationToken()
    try:
        edges = clean_up.settings(largest, specks, holes, smooth, shift, feather, invert)
        lane = DEVICE if find(provider).info.kind == "local" else SERVICES
        finishing = Finishing.parse(
            canvas=canvas, padding=padding, shadow=shadow, contact_shadow=contact_shadow, outline=outline
        )
        return await lane.run(token, _remove, image, provider, background, mask_only, format, finishing, edges, token)
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
    edges: EdgeSettings,
    token: CancellationToken,
) -> str:
    file_format = encode.format_named(format)
    # A path would give callers read access to pictures on the server's disk.
    parsed_background = backgrounds.parse_background(background, paths=False)
    settings = Settings.from_environ()
    photo = image.open()
    if finishing.canvas is None:
        encode.check_size(file_format, photo.width, photo.height)
    cutout = remove_background(photo, provider, edges=edges, cancelled=token.cancelled, settings=settings, device=DEVICE.turn)
    with keep_if_paid([cutout], settings):
        pixels = cutout.render(parsed_background, view="mask" if mask_only else "cutout", finishing=finishing)
        name = f"{cutout.photo.name}-{'mask' if mask_only else 'cutout'}{file_format.suffix}"
        return storage().store(encode.encode(pixels, file_format), name, seconds=storage().keep_seconds)
