"""API endpoint and MCP tool ``batch``; its name and parameters are stable."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

import anyio.to_thread
import gradio as gr

from rmbg.billing import recovery
from rmbg.billing.cost import Cost
from rmbg.errors import CancelledError, OptionError, RmbgError
from rmbg.providers import find
from rmbg.providers.delivery import total
from rmbg.settings import Settings
from rmbg.ui import archive
from rmbg.ui.api.endpoint import Caller, FileParameter, Parameter, add
from rmbg.ui.api.result import EDGES, FINISHING, FIRST, FURTHER, parse_recipe
from rmbg.ui.batch.row import Row
from rmbg.ui.batch.run import Batch
from rmbg.ui.components.files_input import files_input
from rmbg.ui.messages import page_error
from rmbg.ui.payload import CheckedBlocks
from rmbg.ui.shutdown import BATCH_NAME
from rmbg.ui.storage import storage, visitor

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


def build(app: CheckedBlocks) -> None:
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
