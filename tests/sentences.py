"""Format check for messages to the user."""

from __future__ import annotations

import re


def sentence(message: object) -> str:
    """Return the text of a message after checking it: one short line that ends with a period, without internals."""
    text = str(message)
    assert text and text == text.strip(), f"empty or padded: {text!r}"
    assert text.isprintable(), f"more than one line, or invisible characters: {text!r}"
    assert text.endswith("."), f"no period: {text!r}"
    assert len(text) <= 300, f"too long: {text!r}"
    assert not re.search(r"Traceback|<_io|object at 0x|\bError\(|Exception", text), f"contains internals: {text!r}"
    return text
