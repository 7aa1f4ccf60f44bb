"""Validation of the values in a request, before Gradio processes them.

Gradio searches the values of all components for file references, downloads URLs and opens paths. Here only photo inputs and
file inputs accept references, and only to uploads of this server.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import anyio.to_thread
import gradio as gr
from gradio.blocks import BlockFunction
from gradio.exceptions import ComponentProcessingError
from gradio.state_holder import SessionState

from rmbg.errors import RmbgError, check_text
from rmbg.images import source
from rmbg.settings import Settings
from rmbg.ui.components.files_input import FilesInput
from rmbg.ui.components.photo_input import PhotoInput, store_file, uploaded_path
from rmbg.ui.languages import plain_text

FILE_META = {"_type": "gradio.FileData"}

#: Components with values of one type. Gradio checks the values of the others against their choices.
TEXTS, NUMBERS, CHOICES = (gr.Textbox, gr.ColorPicker), (gr.Slider, gr.Number), (gr.Radio, gr.Dropdown)

#: Message for values that are not among the choices of a component, or outside of its range.
INVALID = "A value of the request is not one that the page offers. Reload the page and try again."


class CheckedBlocks(gr.Blocks):
    """``gr.Blocks`` whose events run only if the values of the request pass `check_value`.

    `preprocess_data` is on the path of every event: from the queue, from direct calls and from the API.

    Attributes
    ----------
    optional : dict of str to int
        Number of values at the end of a request that may be missing, by name of the API endpoint: parameters that were added
        later, which then have their defaults.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.optional: dict[str, int] = {}

    async def preprocess_data(
        self, block_fn: BlockFunction, inputs: list[Any], state: SessionState | None, explicit_call: bool = False
    ) -> list[Any]:
        expected = len(block_fn.inputs) - self.optional.get(str(block_fn.api_name), 0)
        if len(inputs) < expected:  # Gradio's own message contains the values, including keys
            raise _error(f"The request has {len(inputs)} values. This function takes {expected}.")
        inputs = [*inputs, *(getattr(block, "value", None) for block in block_fn.inputs[len(inputs) :])]
        checked = [await _checked(value, block) for value, block in zip(inputs, block_fn.inputs, strict=False)]
        try:
            with _plain_errors():
                return await super().preprocess_data(block_fn, checked, state, explicit_call)
        except ComponentProcessingError:
            raise _error(INVALID) from None

    async def call_function(self, *args: Any, **kwargs: Any) -> Any:
        """Call the event handler; Gradio checks the file references in the data of the event before."""
        with _plain_errors():
            return await super().call_function(*args, **kwargs)


@contextlib.contextmanager
def _plain_errors() -> Iterator[None]:
    """Replace Gradio's own errors, whose messages contain the value and names of Python types, by one sentence."""
    try:
        yield
    except gr.Error as error:
        if error.print_exception:
            raise _error(INVALID) from None
        raise


async def _checked(value: Any, block: Any) -> Any:
    if isinstance(block, PhotoInput) and isinstance(value, dict) and _is_data_uri(value.get("url")):
        return await anyio.to_thread.run_sync(store_data_uri, value)
    return check_value(value, block)


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
        return None if value is None else _references(value)
    if isinstance(block, (PhotoInput, gr.File)):
        return None if value is None else _reference(value)
    if isinstance(block, TEXTS):
        value = "" if value is None else value
        valid, expected = isinstance(value, str), "text"
    elif isinstance(block, NUMBERS):
        valid, expected = value is None or _is_number(value), "a number"
    elif isinstance(block, gr.Checkbox):
        valid, expected = value is None or isinstance(value, bool), "true or false"
    else:
        missing = value is None and isinstance(block, CHOICES) and block.value is not None
        valid, expected = value is None or isinstance(value, (str, bool)) or _is_number(value), "text or a number"
        valid = valid and not missing
    label = plain_text(block.label or "")
    if not valid:
        raise _error(f"A value of the request has the wrong type. {label or 'The field'} takes {expected}.")
    return _text(value, label or "The text") if isinstance(value, str) else value


def _is_number(value: Any) -> bool:
    # Python's JSON parser accepts Infinity and NaN.
    return isinstance(value, (int, float)) and not isinstance(value, bool) and -(2**63) < value < 2**63


def _reference(value: Any) -> dict[str, Any]:
    """Copy of a file reference with the path of an upload and its original name only."""
    path, url, name = (value.get(key) if isinstance(value, dict) else None for key in ("path", "url", "orig_name"))
    if _is_address(path) or (not path and _is_address(url)):
        raise _error("Files cannot be loaded from a URL here. Download the file, then upload it.")
    return {"path": uploaded_path(path), "orig_name": _name(name), "meta": FILE_META}


def _references(value: Any) -> list[dict[str, Any]]:
    limit = Settings.from_environ().batch_files
    if not isinstance(value, list):
        raise _error("A value of the request has the wrong type. The photos are a list of files.")
    if len(value) > limit:
        raise _error(f"There are more than {limit:,} files. Send them in several batches.")
    return [_reference(item) for item in value]


def store_data_uri(value: dict[str, Any]) -> dict[str, Any]:
    """Store the picture of a data URI, such as a webcam sends, with the uploads; returns a reference to it."""
    try:
        data, name = source.read(value["url"], _name(value.get("orig_name")), Settings.from_environ())
    except RmbgError as error:
        raise _error(str(error)) from None
    return {"path": store_file(data, name), "orig_name": name, "meta": FILE_META}


def _name(value: Any) -> str | None:
    # A name may contain lone surrogates, which cannot be sent back to the page.
    return _text(value.encode(errors="replace").decode(), "The file's name") if isinstance(value, str) else None


def _text(value: str, label: str) -> str:
    try:
        check_text(value, label).encode()
    except RmbgError as error:
        raise _error(str(error)) from None
    except UnicodeEncodeError:  # lone surrogates
        raise _error(f"{label} contains characters that are not valid text. Write it again.") from None
    return value


def _error(message: str) -> gr.Error:
    return gr.Error(message, print_exception=False)


def _is_data_uri(value: Any) -> bool:
    return isinstance(value, str) and value[:5].lower() == "data:"


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and value.lstrip()[:6].lower().startswith(("http:/", "https:"))
