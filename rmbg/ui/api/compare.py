"""API endpoint ``/compare``; its name and parameters are stable."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gradio as gr

from rmbg.billing.quote import estimate
from rmbg.cancellation import CancellationToken
from rmbg.compare.agreement import agreement
from rmbg.compare.comparison import compare, parse_ids, select_providers
from rmbg.compare.export import cutouts_zip
from rmbg.errors import OptionError, RmbgError
from rmbg.providers.delivery import keep_if_paid
from rmbg.render import backgrounds
from rmbg.settings import Settings
from rmbg.ui.api.remove import API_AT_ONCE
from rmbg.ui.components.photo_input import Upload, photo_input
from rmbg.ui.lanes import DEVICE, LOCAL_COMPARISONS, SERVICES
from rmbg.ui.messages import for_visitor, page_error
from rmbg.ui.storage import storage


def build() -> None:
    """Add the endpoint with hidden components."""
    with gr.Row(visible=False):
        image = photo_input(label="image")
        providers = gr.Textbox("builtin", label="providers")
        reference = gr.Textbox("", label="reference")
        background = gr.Textbox("transparent", label="background")
        confirm_paid = gr.Checkbox(False, label="confirm_paid")
        table, file = gr.JSON(label="table"), gr.File(label="file")
        gr.Button().click(
            compare_endpoint,
            [image, providers, reference, background, confirm_paid],
            [table, file],
            api_name="compare",
            api_description=(compare_endpoint.__doc__ or "").splitlines()[0],
            concurrency_limit=API_AT_ONCE,
        )


async def compare_endpoint(
    image: Upload | None,
    providers: str = "builtin",
    reference: str = "",
    background: str = "transparent",
    confirm_paid: bool = False,
) -> tuple[list[dict[str, Any]], Any]:
    """Remove the background of a picture with several providers; returns a table row for each and a zip of the cutouts.

    Parameters
    ----------
    image : file
    providers : str
        Comma-separated ids.
    reference : str
        The provider to which the others are compared; the first one if empty.
    background : str
        transparent, a color, blur or gradient:#TOP,#BOTTOM, the same for all.
    confirm_paid : bool
        Consent to calling providers that charge for the picture.
    """
    if image is None:
        raise gr.Error("The request has no picture. Pass one as image.", print_exception=False)
    token = CancellationToken()
    try:
        settings = Settings.from_environ()
        selected = select_providers(parse_ids(providers), settings)
        ids = [provider.info.id for provider in selected]
        if reference and reference not in ids:
            raise OptionError(f"reference is {reference[:60]!r}; it must be one of {', '.join(ids)}.")
        # A path would give callers read access to pictures on the server's disk.
        parsed_background = backgrounds.parse_background(background, paths=False)
        charge = estimate([(provider.info, 1) for provider in selected], settings)
        if charge and not confirm_paid:
            raise OptionError(f"This is expected to cost {charge}. Set confirm_paid to true to accept the cost.")
        lane = SERVICES if any(provider.info.kind == "remote" for provider in selected) else LOCAL_COMPARISONS
        return await lane.run(token, _compare, image, ids, reference or ids[0], parsed_background, settings, token)
    except RmbgError as error:
        raise page_error(error) from None
    finally:
        image.release()


def _compare(
    image: Upload,
    ids: list[str],
    reference: str,
    background: backgrounds.Background,
    settings: Settings,
    token: CancellationToken,
) -> tuple[list[dict[str, Any]], str | None]:
    completed = compare(image.open(), ids, settings=settings, cancelled=token.cancelled, device=DEVICE.turn)
    outcomes = [replace(outcome, error=for_visitor(outcome.error)) for outcome in completed]
    outcomes.sort(key=lambda outcome: ids.index(outcome.provider))
    cutouts = [outcome.cutout for outcome in outcomes if outcome.cutout is not None]
    with keep_if_paid(cutouts, settings):
        rows = [row.summary() for row in agreement(outcomes, reference)]
        if not cutouts:
            return rows, None
        data = cutouts_zip(outcomes, background)
        return rows, storage().store(data, f"{cutouts[0].photo.name}-cutouts.zip", seconds=storage().keep_seconds)
