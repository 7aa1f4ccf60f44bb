"""API endpoint ``/compare``, the MCP tool ``compare_providers``; names and parameters are stable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import gradio as gr

from rmbg.billing.quote import estimate
from rmbg.cancellation import CancellationToken
from rmbg.compare.agreement import agreement
from rmbg.compare.comparison import compare, parse_ids, select_providers
from rmbg.compare.export import cutouts_zip
from rmbg.errors import OptionError, RmbgError, printable
from rmbg.providers.delivery import keep_if_paid
from rmbg.render import backgrounds
from rmbg.settings import Settings
from rmbg.ui.api.endpoint import IMAGE_HELP, NO_IMAGE, Caller, FileParameter, Parameter, add
from rmbg.ui.api.result import parse_options
from rmbg.ui.components.photo_input import Upload, photo_input
from rmbg.ui.lanes import DEVICE, LOCAL_COMPARISONS, SERVICES
from rmbg.ui.messages import for_visitor, page_error
from rmbg.ui.payload import CheckedBlocks
from rmbg.ui.storage import storage

PARAMETERS = (
    FileParameter("image", lambda: photo_input(label="image"), IMAGE_HELP),
    Parameter("providers", "builtin", "Ids of providers, separated by commas; see list_providers."),
    Parameter("reference", "", "The provider with which the others are compared; empty for the first one."),
    Parameter(
        "background", "transparent", "transparent, a color such as #ff8800, blur, or gradient:#TOP,#BOTTOM, the same for all."
    ),
    Parameter("confirm_paid", False, "Consent to calling providers that charge for the picture."),
    Parameter(
        "options",
        "",
        'Options of the providers as a JSON object with an object for each id, such as {"fal-rmbg-2.0": {"sync_mode": false}}.',
    ),
)


def build(app: CheckedBlocks) -> None:
    """Add the endpoint."""
    outputs = (lambda: gr.JSON(label="table"), lambda: gr.File(label="file"))
    add(app, compare_providers, PARAMETERS, outputs, name="compare", tool="compare_providers", optional=1)


async def compare_providers(values: Mapping[str, Any], caller: Caller) -> tuple[list[dict[str, Any]], Any]:
    """Remove the background of a picture with several providers, to compare their results, seconds and cost.

    Returns
    -------
    A table with a row for each provider, and a zip file of the cutouts.
    """
    image, reference = values["image"], values["reference"]
    if image is None:
        raise page_error(NO_IMAGE)
    token = CancellationToken()
    try:
        settings = Settings.from_environ()
        selected = select_providers(parse_ids(values["providers"]), settings)
        ids = [provider.info.id for provider in selected]
        if reference and reference not in ids:
            raise OptionError(f"reference is {reference[:60]!r}; it must be one of {', '.join(ids)}.")
        options = _options(values["options"], ids)
        # A path would give callers read access to pictures on the server's disk.
        background = backgrounds.parse_background(values["background"], paths=False)
        charge = estimate([(provider.info, 1) for provider in selected], settings)
        if charge and not values["confirm_paid"]:
            raise OptionError(f"This is expected to cost {charge}. Set confirm_paid to true to accept the cost.")
        keys = {provider.info.id: key for provider in selected if (key := caller.key(provider.info))}
        lane = SERVICES if any(provider.info.kind == "remote" for provider in selected) else LOCAL_COMPARISONS
        return await lane.run(token, _compare, image, ids, reference or ids[0], background, options, keys, settings, token)
    except RmbgError as error:
        raise page_error(error) from None
    finally:
        image.release()


def _options(text: str, ids: list[str]) -> dict[str, dict[str, Any]]:
    """Parse the options of all providers; raises OptionError if one is not compared, or its options are no object."""
    options = parse_options(text)
    for name, given in options.items():
        if name not in ids or not isinstance(given, dict):
            raise OptionError(f"options has {printable(name, 60)!r}; it must have an object for each of {', '.join(ids)}.")
    return options


def _compare(
    image: Upload,
    ids: list[str],
    reference: str,
    background: backgrounds.Background,
    options: Mapping[str, Mapping[str, Any]],
    keys: Mapping[str, str],
    settings: Settings,
    token: CancellationToken,
) -> tuple[list[dict[str, Any]], str | None]:
    completed = compare(
        image.open(), ids, options=options, keys=keys, settings=settings, cancelled=token.cancelled, device=DEVICE.turn
    )
    outcomes = [replace(outcome, error=for_visitor(outcome.error)) for outcome in completed]
    outcomes.sort(key=lambda outcome: ids.index(outcome.provider))
    cutouts = [outcome.cutout for outcome in outcomes if outcome.cutout is not None]
    with keep_if_paid(cutouts, settings):
        rows = [row.summary() for row in agreement(outcomes, reference)]
        if not cutouts:
            return rows, None
        data = cutouts_zip(outcomes, background)
        return rows, storage().store(data, f"{cutouts[0].photo.name}-cutouts.zip", seconds=storage().keep_seconds)
