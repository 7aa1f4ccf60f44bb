"""Validation of the values in a request, before Gradio processes them.

Gradio searches the values of all components for file references, downloads URLs and opens paths. Here only photo inputs and
file inputs accept references, and only to uploads of this server.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import anyio.to_thread
import gradio as gr

from rmbg.errors import RmbgError, check_text
from rmbg.images import photo
from rmbg.settings import Settings
from rmbg.ui.components.inputs import FilesInput, PhotoInput, store_file, uploaded_path
from rmbg.ui.guard.checks import PREFIX
from rmbg.ui.languages import page_error, plain, t

FILE_META = {"_type": "gradio.FileData"}

#: Components with values of one type. Gradio checks the values of the others against their choices.
TEXTS, NUMBERS, CHOICES = (gr.Textbox, gr.ColorPicker), (gr.Slider, gr.Number), (gr.Radio, gr.Dropdown)

#: Message for values that are not among the choices of a component, or outside of its range.
INVALID = "A value of the request is not one that the page offers. Reload the page and try again."


async def checked(value: Any, block: Any) -> Any:
    """Return a validated value; pictures in data URIs are stored first. See `check_value`."""
    if isinstance(block, PhotoInput):
        value = await _stored(value)
    elif isinstance(block, FilesInput) and value is not None:
        if not isinstance(value, list):
            raise page_error("A value of the request has the wrong type. The photos are a list of files.")
        limit = Settings.from_environ().batch_files
        if len(value) > limit:
            raise page_error(t("There are more than {limit:,} files. Send them in several batches.", limit=limit))
        value = [await _stored(item) for item in value]
    return check_value(value, block)


async def _stored(value: Any) -> Any:
    """Return a reference to the picture of a data URI, which is stored with the uploads; other values are returned unchanged.

    MCP clients send data URIs and addresses as text.
    """
    if _is_data_uri(value) or _is_address(value):
        value = {"path": None, "url": value}
    if isinstance(value, dict) and _is_data_uri(value.get("url")):
        return await anyio.to_thread.run_sync(store_data_uri, value)
    return value


def check_value(value: Any, block: Any) -> Any:
    """Return a validated value that Gradio may process.

    Parameters
    ----------
    value : JSON value
        From the request.
    block : Component

    Raises
    ------
    gr.Error
        If it is too long, of the wrong type, or a reference to anything but an upload of this server.
    """
    if isinstance(block, gr.State):  # the value is on the server
        return None
    if isinstance(block, FilesInput):
        return None if value is None else [_reference(item) for item in value]
    if isinstance(block, (PhotoInput, gr.File)):
        return None if value is None else _reference(value)
    if isinstance(block, TEXTS):
        value = "" if value is None else value
        valid, expected = isinstance(value, str), t("text")
    elif isinstance(block, NUMBERS):
        valid, expected = _is_number(value), t("a number")
    elif isinstance(block, gr.Dropdown) and block.multiselect:
        valid, expected = isinstance(value, list) and all(isinstance(item, str) for item in value), t("a list of texts")
        value = list(dict.fromkeys(value)) if valid else value
    elif isinstance(block, gr.Checkbox):
        valid, expected = isinstance(value, bool), t("true or false")
    else:
        valid, expected = isinstance(value, (str, bool)) or _is_number(value), t("text or a number")
    if value is None:  # of a choice that has a default, it is missing
        valid = not isinstance(block, CHOICES) or block.value is None
    label = t(plain(block.label or ""))
    if not valid:
        field = label or t("The field")
        raise page_error(
            t("A value of the request has the wrong type. {field} takes {expected}.", field=field, expected=expected)
        )
    return _text(value, label or t("The text")) if isinstance(value, str) else value


def _is_number(value: Any) -> bool:
    # Python's JSON parser accepts Infinity and NaN.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -(2**63) < value < 2**63


def _reference(value: Any) -> dict[str, Any]:
    """Copy of a file reference with the path of an upload and its original name only."""
    path, url, name = (value.get(key) if isinstance(value, dict) else None for key in ("path", "url", "orig_name"))
    address = path if _is_address(path) else url if not path and _is_address(url) else None
    path = path if address is None else _own_path(address)
    return {"path": uploaded_path(path), "orig_name": _name(name), "meta": FILE_META}


def _own_path(address: str) -> str:
    """Return the path in the URL of an upload of this server; no connection is made."""
    _, found, path = address.partition(f"{PREFIX}file=")
    try:
        return uploaded_path(unquote(path) if found else None)
    except gr.Error:
        raise page_error("Files cannot be loaded from a URL here. Download the file, then upload it.") from None


def store_data_uri(value: dict[str, Any]) -> dict[str, Any]:
    """Store the picture of a data URI, such as a webcam sends, with the uploads; returns a reference to it."""
    try:
        data, name = photo.read(value["url"], _name(value.get("orig_name")), Settings.from_environ())
    except RmbgError as error:
        raise page_error(error) from None
    return {"path": store_file(data, name), "orig_name": name, "meta": FILE_META}


def _name(value: Any) -> str | None:
    # A name may contain lone surrogates, which cannot be sent back to the page.
    return _text(value.encode(errors="replace").decode(), t("The file's name")) if isinstance(value, str) else None


def _text(value: str, label: str) -> str:
    try:
        check_text(value, label).encode()
    except RmbgError as error:
        raise page_error(error) from None
    except UnicodeEncodeError:  # lone surrogates
        raise page_error(t("{field} contains characters that are not valid text. Write it again.", field=label)) from None
    return value


def _is_data_uri(value: Any) -> bool:
    return isinstance(value, str) and value[:5].lower() == "data:"


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip()[:6].lower().startswith(("http:/", "https:"))
