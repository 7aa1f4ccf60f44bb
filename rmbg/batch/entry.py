"""Inputs of a batch and the interface of their sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from rmbg.providers.base import never_cancelled

#: Stamp of an input without metadata that identify its version. Changes of such an input are not detected.
NO_STAMP = "-"


@dataclass(frozen=True)
class Entry:
    """One input of a batch.
    Attributes
    ----------
    name : str
        Unique in the source; primary key in the manifest. Always encodable as UTF-8.
    target : str
        Relative path of the result without suffix, with ``/`` as separator. Not unique.
    stamp : str
        Version of the content from metadata: size and times, or a checksum.
    locator : str
        Path, URL or member name for `Source.read`.
    problem : str
        Error message if the input is unusable, otherwise empty.
    """

    name: str
    target: str
    stamp: str = NO_STAMP
    locator: str = ""
    problem: str = ""


class Source(Protocol):
    """Inputs of a batch."""

    @property
    def remote(self) -> bool:
        """True if reads are dominated by network latency; the pipeline then uses more readers."""
        ...

    def entries(self) -> list[Entry]:
        """Return all inputs, sorted by name."""
        ...

    def read(self, entry: Entry, cancelled: Callable[[], bool] = never_cancelled) -> bytes:
        """Return the bytes of one input, at most ``settings.max_bytes``; thread-safe.

        Raises
        ------
        RmbgError
            If the input cannot be read or is too large.
        """
        ...
