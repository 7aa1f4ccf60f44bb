"""Exceptions of the package.

    RmbgError
     ├── InputError             invalid input
     │    ├── PhotoError        the picture cannot be read or is beyond the limits
     │    └── OptionError       invalid option, color, provider or setting
     ├── NotReadyError          the provider needs a key, a license, weights or a package
     ├── NoSubjectError         the provider found no subject
     ├── ModelError             a local network failed: weights, device, memory
     ├── ServiceError           a remote service failed or could not be reached
     ├── CancelledError         the user cancelled the work
     └── OutputError            the result could not be written

A message consists of one or two sentences for the user: what happened, then what to do. It never contains a key or image data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal

from rmbg.billing.cost import Cost
from rmbg.runtime.messages import Message

#: Longest text input of the page, the API and the command line, in characters. Signed URLs have up to 2,000.
MAX_TEXT = 4_000

#: Names in a message about an unknown one.
MAX_NAMES = 7


class RmbgError(Exception):
    """Base class of the exceptions of this package; the message may be displayed to the user.

    Attributes
    ----------
    cost : Cost or None
        Cost of the failed call. None if nothing was charged, basis ``unknown`` if a charge is possible.
    reserved : Decimal or None
        Dollars that count against the budget while `cost` is unknown.
    """

    cost: Cost | None = None
    reserved: Decimal | None = None


class InputError(RmbgError, ValueError):
    """Invalid input."""


class PhotoError(InputError):
    """The picture cannot be read, or is beyond the limits."""


class OptionError(InputError):
    """Invalid value or name of an option, a provider or a setting."""


class NotReadyError(RmbgError):
    """The provider cannot run yet; the message names the requirement."""


class NoSubjectError(RmbgError):
    """The provider found no subject."""


class ModelError(RmbgError):
    """A network on this machine could not be loaded or run."""


class ServiceError(RmbgError):
    """A remote service refused, failed or could not be reached."""


class CancelledError(RmbgError):
    """The user cancelled the work."""


class OutputError(RmbgError, OSError):
    """The result could not be written; an existing file is unchanged."""


def printable(text: str, length: int) -> str:
    """Return external text as one line of at most `length` printable characters."""
    line = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return line if len(line) <= length else f"{line[: length - 3]}..."


def alternatives(name: str, known: Iterable[str]) -> str:
    """Return the known names that resemble an unknown one, else the first ones, and the number of the others."""
    from difflib import get_close_matches  # deferred: only needed after an error

    names = list(known)
    shown = get_close_matches(name, names, 3) or names[:MAX_NAMES]
    others = len(names) - len(shown)
    return ", ".join(shown) + (f" and {others} more" if others else "")


def check_text(text: str, label: str) -> str:
    """Return `text` unchanged, or raise OptionError naming `label` if it is longer than `MAX_TEXT`."""
    if len(text) > MAX_TEXT:
        raise OptionError(
            Message(
                "{name} has {count:,} characters, more than the limit of {limit:,}. Shorten it.",
                name=label,
                count=len(text),
                limit=MAX_TEXT,
            )
        )
    return text


def reason(error: BaseException) -> str:
    """Short description of an error, without object representations."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    # Truncated first, because the pattern takes quadratic time on tags that are not closed.
    return printable(re.sub(r"<[^>]*>", "the file", text[:1000]), 120).strip(" .")
