"""The functions that other programs call, under names that stay."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rmbg import compose, encode
from rmbg.errors import RmbgError
from rmbg.remove import remove_background
from rmbg.ui.upload import Upload, cached, photo_input


def build() -> None:
    """Add the endpoints; they have no place on the page."""
    with gr.Row(visible=False):
        image = photo_input(label="image")
        provider = gr.Textbox("auto", label="provider")
        background = gr.Textbox("transparent", label="background")
        mask_only = gr.Checkbox(False, label="mask_only")
        form = gr.Textbox("png", label="format")
        file = gr.File(label="file")
        gr.Button().click(
            cut,
            [image, provider, background, mask_only, form],
            file,
            api_name="remove_background",
            api_description=(cut.__doc__ or "").splitlines()[0],
            concurrency_id="device",
            concurrency_limit=1,
        )


def cut(
    image: Upload | None,
    provider: str = "auto",
    background: str = "transparent",
    mask_only: bool = False,
    format: str = "png",
) -> Any:
    """Take the background off a picture and return the file of the cut-out, on a new background if one is given.

    Parameters
    ----------
    image : file
    provider : str
        Id of a provider, or auto.
    background : str
        transparent, a colour, blur or gradient:#TOP,#BOTTOM.
    mask_only : bool
        The mask, white on black, and not the cut-out.
    format : str
        png, webp, webp-lossy, jpeg or avif.
    """
    if image is None:
        raise gr.Error("There is no picture; give one as image.", print_exception=False)
    try:
        form = encode.format_named(format)
        # A path would let a caller read pictures of the server's own disk.
        behind = compose.parse_background(background, paths=False)
        cutout = remove_background(image.open(), provider)
        pixels = compose.render(cutout, behind, view="mask" if mask_only else "cutout")
        data = encode.encode(pixels, form)
    except RmbgError as error:
        raise gr.Error(str(error), print_exception=False) from None
    return cached(data, f"{cutout.photo.name}-{'mask' if mask_only else 'cutout'}{form.suffix}")
