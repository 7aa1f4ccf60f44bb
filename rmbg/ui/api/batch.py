"""API endpoint ``/batch``; its name and parameters are stable."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
from collections.abc import AsyncIterator
from typing import Any

import anyio.to_thread
import gradio as gr

from rmbg.batch.recipe import Recipe
from rmbg.billing import recovery
from rmbg.billing.cost import Cost
from rmbg.errors import CancelledError, OptionError, RmbgError
from rmbg.images import encode
from rmbg.providers import find
from rmbg.providers.delivery import total
from rmbg.render import backgrounds
from rmbg.render.picture import View
from rmbg.settings import Settings
from rmbg.ui import archive
from rmbg.ui.api.remove import API_AT_ONCE
from rmbg.ui.batch.run import Batch, Row
from rmbg.ui.components.files_input import files_input
from rmbg.ui.components.photo_input import Upload
from rmbg.ui.messages import page_error
from rmbg.ui.shutdown import BATCH_NAME
from rmbg.ui.storage import storage, visitor

log = logging.getLogger(__name__)

#: Seconds between two checks for new rows.
POLL_SECONDS = 0.2


def build() -> None:
    """Add the endpoint with hidden components."""
    with gr.Row(visible=False):
        images = files_input(label="images")
        provider = gr.Textbox("auto", label="provider")
        background = gr.Textbox("transparent", label="background")
        mask_only = gr.Checkbox(False, label="mask_only")
        form = gr.Textbox("png", label="format")
        confirm_paid = gr.Checkbox(False, label="confirm_paid")
        table, file = gr.JSON(label="table"), gr.File(label="file")
        gr.Button().click(
            batch_endpoint,
            [images, provider, background, mask_only, form, confirm_paid],
            [table, file],
            api_name="batch",
            api_description=(batch_endpoint.__doc__ or "").splitlines()[0],
            concurrency_limit=API_AT_ONCE,
        )


async def batch_endpoint(
    images: list[Upload],
    provider: str = "auto",
    background: str = "transparent",
    mask_only: bool = False,
    format: str = "png",
    confirm_paid: bool = False,
) -> AsyncIterator[tuple[list[dict[str, Any]], Any]]:
    """Remove the backgrounds of several pictures; streams a table with a row for each, and returns a zip of the results.

    Parameters
    ----------
    images : list of file
        Pictures and zip archives, within the limits of the server.
    provider : str
        Id of a provider, or auto.
    background : str
        transparent, a color, blur or gradient:#TOP,#BOTTOM.
    mask_only : bool
        Return the masks, white on black, instead of the cutouts.
    format : str
        png, webp, webp-lossy, jpeg or avif.
    confirm_paid : bool
        Consent to calling a provider that charges for the pictures.
    """
    owner, batch, request, delivered = visitor(), None, None, False
    try:
        # A path would give callers read access to pictures on the server's disk.
        parsed_background = backgrounds.parse_background(background, paths=False)
        chosen = find(provider)
        view: View = "mask" if mask_only else "cutout"
        options = chosen.info.parse_options({})
        recipe = Recipe(chosen, options, encode.format_named(format), parsed_background, view)
        folder = storage().root.folder / f"batch-{secrets.token_hex(8)}"
        batch = await anyio.to_thread.run_sync(Batch, images, folder, lambda: owner, lambda provider, cost: None)
        request = await anyio.to_thread.run_sync(batch.prepare, recipe)
        if request.estimate and not confirm_paid:
            raise OptionError(f"This is expected to cost {request.estimate}. Set confirm_paid to true to accept the cost.")
        batch.start(request)
        shown = batch.revision
        yield _rows(batch), None
        while batch.running:
            if shown != batch.revision:
                shown = batch.revision
                yield _rows(batch), None
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
        for image in images:
            image.release()


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
        return archive.write(owner, (batch.result(row) for row in rows)) if rows else None


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
