"""What every message to a user must look like."""

from __future__ import annotations

import re


def sentence(message: object) -> str:
    """The text of an error, checked: one line, short, whole, without anything that only a programmer reads."""
    text = str(message)
    assert text and text == text.strip(), f"empty or padded: {text!r}"
    assert text.isprintable(), f"more than one line, or invisible characters: {text!r}"
    assert text.endswith("."), f"no full stop: {text!r}"
    assert len(text) <= 300, f"too long: {text!r}"
    assert not re.search(r"Traceback|<_io|object at 0x|\bError\(|Exception", text), f"for programmers: {text!r}"
    return text
