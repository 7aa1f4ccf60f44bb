"""Everything that can go wrong, and whose fault it was.

    RmbgError
     ├── InputError             what the user gave
     │    ├── PhotoError        the picture cannot be used
     │    └── OptionError       an option, a colour, a provider or a setting that does not exist
     ├── NotReadyError          the provider needs something first: a key, a licence, weights, a package
     ├── NoSubjectError         the provider worked and found nothing to cut out
     ├── ModelError             a local network failed: weights, device, memory
     ├── ServiceError           a remote service failed or could not be reached
     ├── CancelledError         the user stopped it
     └── OutputError            the result could not be written

Each message is one sentence (or two) for the person who reads it: what was wrong, and what to do. No message holds a key
or the content of a picture.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from rmbg.cutout import Cost

#: Who has to do something about it: the user (a key, a balance, a photo, an option), the service, or whoever looks after the
#: connection between them.
Fault = Literal["user", "service", "connection"]


class RmbgError(Exception):
    """Base of all errors that are raised on purpose; ``str(error)`` may be shown to the user as it is.

    Attributes
    ----------
    cost : Cost or None
        What was spent although there is no result: of basis ``unknown`` if it may have been, None if nothing was.
    """

    cost: Cost | None = None


class InputError(RmbgError, ValueError):
    """What the user gave cannot be used."""


class PhotoError(InputError):
    """The picture cannot be read, or is beyond the limits."""


class OptionError(InputError):
    """An option has no such value, or there is no such option, provider or setting."""


class NotReadyError(RmbgError):
    """The provider cannot run yet; the message says what it needs."""


class NoSubjectError(RmbgError):
    """The provider found nothing that stands out from its background."""


class ModelError(RmbgError):
    """A network on this machine could not be loaded or run."""


class ServiceError(RmbgError):
    """A remote service refused, failed or could not be reached; `fault` says who can do something about it."""

    def __init__(self, message: str, fault: Fault = "service") -> None:
        super().__init__(message)
        self.fault: Fault = fault


class CancelledError(RmbgError):
    """The user stopped the work."""


class OutputError(RmbgError, OSError):
    """The result could not be written; what was there before is untouched."""


def printable(text: str, length: int) -> str:
    """`text` from outside as it may stand in a message: on one line, nothing invisible in it, at most `length` characters."""
    line = "".join(c for c in " ".join(text.split()) if c.isprintable())
    return line if len(line) <= length else f"{line[: length - 3]}..."


def reason(error: BaseException) -> str:
    """The error's own words, short and without addresses of objects."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(re.sub(r"<[^>]*>", "the file", text), 120).strip(" .")
