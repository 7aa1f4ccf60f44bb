"""The API endpoints and MCP tools; names and parameters are stable."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import anyio.to_thread
import gradio as gr

from rmbg.batch.plan import Recipe
from rmbg.batch.processes import result_in_background, supports
from rmbg.billing import recovery
from rmbg.billing.cost import Cost
from rmbg.billing.quote import estimate
from rmbg.compare.agreement import agreement
from rmbg.compare.comparison import compare, parse_ids, select_providers
from rmbg.compare.export import cutouts_zip
from rmbg.cutout import cost_facts
from rmbg.errors import CancelledError, OptionError, RmbgError, printable
from rmbg.images import encode
from rmbg.images.photo import stem
from rmbg.matting.edges import UNCHANGED
from rmbg.providers import PROVIDERS, find
from rmbg.providers.base import describe
from rmbg.remove import keep_if_paid, remove_background, total
from rmbg.render import backgrounds
from rmbg.replace import INFO, Replaced, pixels, replace_background
from rmbg.runtime.cancellation import CancellationToken
from rmbg.settings import Settings
from rmbg.ui import pictures
from rmbg.ui.api.endpoint import (
    EDGES,
    FINISHING,
    FIRST,
    FURTHER,
    IMAGE_HELP,
    NO_IMAGE,
    Caller,
    FileParameter,
    Parameter,
    add,
    key_header,
    parse_options,
    parse_recipe,
)
from rmbg.ui.batch import Batch, Row
from rmbg.ui.components.inputs import Upload, files_input, photo_input
from rmbg.ui.gradio_overrides import CheckedBlocks
from rmbg.ui.lanes import DEVICE, LARGE, LARGE_PIXELS, LOCAL, SERVICES, memory_for
from rmbg.ui.languages import for_visitor, page_error, status_text
from rmbg.ui.runs import BATCH_NAME
from rmbg.ui.storage import storage, visitor


def add_list_providers(app: CheckedBlocks) -> None:
    """Add the endpoint."""
    add(app, providers, (), [lambda: gr.JSON(label="providers")], name="list_providers", tool="list_providers")


async def providers(values: Mapping[str, Any], caller: Caller) -> list[dict[str, Any]]:
    """List the providers with status, price, model, license and options.

    Returns
    -------
    An object for each provider; key_header is the header that a call may have with the caller's own API key.
    """
    settings = Settings.from_environ()
    rows = []
    for provider in [find(name, settings) for name in PROVIDERS]:
        info, status = provider.info, provider.status(settings)
        row = describe(info, status, settings)
        row["status"]["text"] = status_text(status)
        rows.append(row | {"key_header": key_header(info) if info.key_name else None})
    return rows


# API endpoint and MCP tool ``remove_background``; its name and parameters are stable.


IMAGE = FileParameter("image", lambda: photo_input(label="image"), IMAGE_HELP)

MASK = FileParameter(
    "mask",
    lambda: photo_input(label="mask"),
    "Mask that is used instead of a provider, given as the image is: gray, white where the subject is, or with transparency.",
    required=False,
)


def add_remove_background(app: CheckedBlocks) -> None:
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
        lane = LOCAL if mask is not None or recipe.provider.info.kind == "local" else SERVICES
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
    def store(name: str, data: bytes) -> str:
        return storage().store(data, f"{name}-{recipe.view}{recipe.form.suffix}", seconds=storage().keep_seconds)

    if mask is None and supports(recipe) and image.pixels > LARGE_PIXELS:
        with LARGE.turn(token.check):
            result = result_in_background(recipe, settings, image.name, Path(image.path), token.check)
        return store(stem(image.name), result.data)
    photo = image.open()
    recipe.check_photo(photo)
    with memory_for(photo, token.check):
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
            rest = dataclasses.replace(recipe, edges=UNCHANGED, alpha_matting=None)
            return store(cutout.photo.name, rest.encode(cutout, token.cancelled))


# API endpoint and MCP tool ``replace_background``; its name and parameters are stable.


REPLACE_PARAMETERS: tuple[Parameter | FileParameter, ...] = (
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


def add_replace_background(app: CheckedBlocks) -> None:
    """Add the endpoint."""
    outputs = (lambda: gr.JSON(label="summary"), lambda: gr.File(label="files", file_count="multiple"))
    add(app, replace, REPLACE_PARAMETERS, outputs, name="replace_background", tool="replace_background")


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


# API endpoint ``/compare``, the MCP tool ``compare_providers``; names and parameters are stable.


COMPARE_PARAMETERS = (
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


def add_compare(app: CheckedBlocks) -> None:
    """Add the endpoint."""
    outputs = (lambda: gr.JSON(label="table"), lambda: gr.File(label="file"))
    add(app, compare_providers, COMPARE_PARAMETERS, outputs, name="compare", tool="compare_providers", optional=1)


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
        lane = SERVICES if any(provider.info.kind == "remote" for provider in selected) else LOCAL
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
    photo, device = image.open(), DEVICE.for_client()
    with memory_for(photo, token.check):
        completed = compare(photo, ids, options=options, keys=keys, settings=settings, cancelled=token.cancelled, device=device)
        outcomes = [dataclasses.replace(outcome, error=for_visitor(outcome.error)) for outcome in completed]
        outcomes.sort(key=lambda outcome: ids.index(outcome.provider))
        cutouts = [outcome.cutout for outcome in outcomes if outcome.cutout is not None]
        with keep_if_paid(cutouts, settings):
            rows = [row.summary() for row in agreement(outcomes, reference)]
            if not cutouts:
                return rows, None
            data = cutouts_zip(outcomes, background)
            return rows, storage().store(data, f"{cutouts[0].photo.name}-cutouts.zip", seconds=storage().keep_seconds)


# API endpoint and MCP tool ``batch``; its name and parameters are stable.


log = logging.getLogger(__name__)

#: Seconds between two checks for new rows.
POLL_SECONDS = 0.2


IMAGES = FileParameter(
    "images",
    lambda: files_input(label="images"),
    "Pictures and zip archives, within the limits of the server: uploads of this server, or data URIs.",
)
CONSENT = Parameter("confirm_paid", False, "Consent to calling a provider that charges for the pictures.")
MAX_COST = Parameter("max_cost", None, "Limit of the charges of all calls in US dollars; by default the expected ones.")

#: Highest limit in US dollars, as on the command line.
HIGHEST_LIMIT = 10**9


def add_batch(app: CheckedBlocks) -> None:
    """Add the endpoint."""
    later = (*FINISHING, *EDGES, *FURTHER, MAX_COST)
    outputs = (lambda: gr.JSON(label="table"), lambda: gr.File(label="file"))
    add(app, remove_batch, (IMAGES, *FIRST, CONSENT, *later), outputs, name="batch", tool="batch", optional=len(later))


async def remove_batch(values: Mapping[str, Any], caller: Caller) -> AsyncIterator[tuple[list[dict[str, Any]], Any]]:
    """Remove the backgrounds of several pictures.

    Returns
    -------
    A table with a row for each picture, which is streamed while the results are made, and a zip file of the results.
    """
    owner, batch, request, delivered = visitor(), None, None, False
    images, picture = values["images"], values["background_picture"]
    try:
        recipe = await anyio.to_thread.run_sync(parse_recipe, values, Settings.from_environ())
        folder = storage().root.folder / f"batch-{secrets.token_hex(8)}"
        batch = await anyio.to_thread.run_sync(Batch, images, folder, lambda: owner, lambda provider, cost: None)
        request = await anyio.to_thread.run_sync(batch.prepare, recipe, None, _max_cost(values["max_cost"]))
        if request.estimate and not values["confirm_paid"]:
            raise OptionError(f"This is expected to cost {request.estimate}. Set confirm_paid to true to accept the cost.")
        batch.start(request, caller.key(recipe.provider.info))
        shown = None
        while batch.running or shown is None:
            if shown != batch.revision:
                shown, rows = batch.revision, _rows(batch)
                caller.progress((sum(row["state"] != "new" for row in rows), len(rows)), desc="Photos")
                yield rows, None
            await asyncio.sleep(POLL_SECONDS)
        try:
            path = await anyio.to_thread.run_sync(_deliver, batch, owner)
        finally:
            delivered = True  # if it failed, paid results are in the recovery folder
        yield _rows(batch), path
    except RmbgError as error:
        raise page_error(error) from None
    finally:
        if batch is not None:
            # In a thread, because the photos that are being paid for are finished first.
            threading.Thread(target=_end, args=(batch, delivered), name=BATCH_NAME, daemon=True).start()
        for upload in [*images, *([] if picture is None else [picture])]:
            upload.release()


def _max_cost(value: float | None) -> Decimal | None:
    """Return the limit in US dollars; raises OptionError if it is no amount."""
    if value is None:
        return None
    if not 0 <= value <= HIGHEST_LIMIT:
        raise OptionError(f"max_cost is {value}; it must be an amount of US dollars such as 0.50.")
    return Decimal(str(value))


def _rows(batch: Batch) -> list[dict[str, Any]]:
    """Return the rows as JSON objects; those that were not processed have the reason as message."""
    rows = [row.summary() for row in batch.rows]
    return [row | {"message": batch.message} if row["state"] == "new" else row for row in rows]


def _deliver(batch: Batch, owner: str) -> str | None:
    """Return the path of a zip archive of the results; None if no photo has one.

    Raises
    ------
    RmbgError
        If the batch ended before its first result, or the results cannot be packed. Paid results are then in the recovery
        folder, and the message has their location.
    """
    rows = [row for row in batch.rows if row.file]
    if batch.halted and not rows:
        raise RmbgError(batch.message)
    with contextlib.ExitStack() as stack:
        paid = _paid(batch)
        if paid:
            stack.enter_context(recovery.kept(lambda: _contents(batch, paid), _total(paid), Settings.from_environ()))
        return pictures.write(owner, (batch.result(row) for row in rows)) if rows else None


def _paid(batch: Batch) -> list[Row]:
    return [row for row in batch.rows if row.file and find(row.provider).info.kind == "remote"]


def _contents(batch: Batch, rows: list[Row]) -> dict[str, bytes]:
    return {row.file.replace("/", "-"): batch.result(row)[1] for row in rows}


def _total(rows: list[Row]) -> Cost:
    return total([row.cost or Cost(None, "unknown") for row in rows])


def _end(batch: Batch, delivered: bool) -> None:
    """Stop a batch and remove its files; paid results that were not delivered are saved in the recovery folder."""
    batch.cancel()
    batch.join()
    rows = [] if delivered else _paid(batch)
    if rows:
        try:
            error = CancelledError("A call of /batch was cancelled.")
            log.warning("%s", recovery.keep(error, _contents(batch, rows), _total(rows), Settings.from_environ()))
        except RmbgError as error:
            log.warning("Paid results of a cancelled call are lost: %s", error)
    batch.close()


def build(app: CheckedBlocks) -> None:
    """Add all endpoints to the app."""
    for add_endpoint in (add_remove_background, add_compare, add_replace_background, add_batch, add_list_providers):
        add_endpoint(app)
