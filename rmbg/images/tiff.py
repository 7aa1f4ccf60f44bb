"""Reader of TIFF directories, which EXIF data uses as well (TIFF 6.0, section 2; BigTIFF)."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

#: Size of one value by type, in bytes. The count of text and undefined data is their number of bytes.
TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}

#: Types of bytes, text and undefined data.
BYTE_TYPES = (1, 2, 7)

#: Signatures of valid files, and all signatures that Pillow accepts.
VALID = (b"II*\0", b"MM\0*")
_ACCEPTED = re.compile(rb"II\*\0|II\0\*|MM\0\*|MM\*\0|II\+\0|MM\0\+")


@dataclass(frozen=True)
class Entry:
    """Directory entry; `offset` is the position of its values in the file, or the values themselves if they fit into it."""

    tag: int
    kind: int
    count: int
    offset: int

    @property
    def size(self) -> int:
        """Size of all values in bytes; 0 for an unknown type."""
        return self.count * TYPE_SIZES.get(self.kind, 0)


def directory(data: bytes) -> Iterator[Entry]:
    """Yield the entries of the first directory; none for files of other types.

    Raises
    ------
    struct.error
        After the last complete entry, if the directory is truncated.
    """
    if not _ACCEPTED.match(data):
        return
    order, big = "<" if data[:1] == b"I" else ">", data[2] == 43
    (start,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", data, 8 if big else 4)
    number = struct.Struct(f"{order}{'Q' if big else 'H'}")
    entry = struct.Struct(f"{order}{'HHQQ' if big else 'HHII'}")
    if start > len(data):
        raise struct.error
    (count,) = number.unpack_from(data, start)
    for at in range(count):
        yield Entry(*entry.unpack_from(data, start + number.size + entry.size * at))
