"""The comparison for other programs, under a name that stays."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rmbg import compose
from rmbg.commands.compare import describe, split
from rmbg.compare import agreement, chosen, compare, expected_usd
from rmbg.compare_files import cutouts_zip
from rmbg.errors import OptionError, RmbgError
from rmbg.prices import in_words
from rmbg.settings import Settings
from rmbg.ui.upload import Upload, cached, photo_input


def build() -> None:
    """Add the endpoint; it has no place on the page."""
    with gr.Row(visible=False):
        image = photo_input(label="image")
        providers = gr.Textbox("builtin", label="providers")
        reference = gr.Textbox("", label="reference")
        background = gr.Textbox("transparent", label="background")
        confirm_paid = gr.Checkbox(False, label="confirm_paid")
        table, file = gr.JSON(label="table"), gr.File(label="file")
        gr.Button().click(
            side_by_side,
            [image, providers, reference, background, confirm_paid],
            [table, file],
            api_name="compare",
            api_description=(side_by_side.__doc__ or "").splitlines()[0],
            concurrency_id="device",
            concurrency_limit=1,
        )


def side_by_side(
    image: Upload | None,
    providers: str = "builtin",
    reference: str = "",
    background: str = "transparent",
    confirm_paid: bool = False,
) -> tuple[list[dict[str, Any]], Any]:
    """Take the background off a picture with several providers; returns a line for each and a zip of the cut-outs.

    Parameters
    ----------
    image : file
    providers : str
        Ids, with commas between them.
    reference : str
        The provider that the others are measured against; the first one if empty.
    background : str
        transparent, a colour, blur or gradient:#TOP,#BOTTOM, the same for all.
    confirm_paid : bool
        Says that providers which charge for the picture may be called.
    """
    if image is None:
        raise gr.Error("There is no picture; give one as image.", print_exception=False)
    try:
        settings = Settings.from_environ()
        asked = chosen(split(providers), settings)
        ids = [provider.info.id for provider in asked]
        if reference and reference not in ids:
            raise OptionError(f"reference is {reference[:60]!r}; it must be one of {', '.join(ids)}.")
        # A path would let a caller read pictures of the server's own disk.
        behind = compose.parse_background(background, paths=False)
        price = in_words(*expected_usd(asked))
        if price and not confirm_paid:
            raise OptionError(f"This is expected to cost {price}; set confirm_paid if that is meant.")
        outcomes = sorted(compare(image.open(), ids, settings=settings), key=lambda outcome: ids.index(outcome.provider))
        made = [outcome.cutout for outcome in outcomes if outcome.cutout is not None]
        lines = [describe(line) for line in agreement(outcomes, reference or ids[0])]
        return lines, cached(cutouts_zip(outcomes, behind), f"{made[0].photo.name}-cutouts.zip") if made else None
    except RmbgError as error:
        raise gr.Error(str(error), print_exception=False) from None
