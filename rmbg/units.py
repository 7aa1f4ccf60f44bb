"""Sizes in messages: megabytes and megapixels, both decimal."""

from __future__ import annotations

from rmbg.message import Message


def megabytes(count: int) -> str:
    """Return a number of bytes as text, such as ``40 MB`` or ``0.05 MB``."""
    return f"{_rounded(count / 1e6)} MB"


def megapixels(count: int) -> str:
    """Return a number of pixels as text, such as ``64 megapixels``."""
    return Message("{size} megapixels", size=_rounded(count / 1e6))


def _rounded(value: float) -> str:
    """Return a number with four significant digits and all digits before the point."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
