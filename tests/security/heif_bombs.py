"""Small HEIC files that take a decoder much time or memory, written box by box (ISO 23008-12)."""

from __future__ import annotations

import functools
import io
import struct
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from rmbg.images.decode import formats

#: Item that a reference of type ``dimg`` or ``auxl`` starts at, its type, and the items it leads to.
Reference = tuple[int, bytes, Sequence[int]]


class Item(NamedTuple):
    """Item of a HEIC file: type, data, width and height, and its decoder configuration (``hvcC``)."""

    kind: bytes
    data: bytes
    width: int
    height: int
    configuration: bytes = b""


def box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I4s", 8 + len(data), kind) + data


def full_box(kind: bytes, version: int, *parts: bytes) -> bytes:
    return box(kind, struct.pack(">I", version << 24), *parts)


@functools.cache
def coded(side: int) -> Item:
    """Return a square picture of one color, compressed with HEVC."""
    formats()
    out = io.BytesIO()
    Image.new("RGB", (side, side), (120, 90, 40)).save(out, "HEIF", quality=10)
    data = out.getvalue()
    at = data.index(b"hvcC") - 4
    configuration = data[at : at + int.from_bytes(data[at : at + 4], "big")]
    at = data.index(b"mdat") - 4
    return Item(b"hvc1", data[at + 8 : at + int.from_bytes(data[at : at + 4], "big")], side, side, configuration)


def grid(rows: int, columns: int, width: int, height: int) -> Item:
    """Return a picture that is composed of ``rows * columns`` tiles."""
    return Item(b"grid", struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, width, height), width, height)


def overlay(layers: int, width: int, height: int) -> Item:
    """Return a picture that is composed of layers on top of each other."""
    data = struct.pack(">BB4HII", 0, 1, 0, 0, 0, 0, width, height) + struct.pack(">ii", 0, 0) * layers
    return Item(b"iovl", data, width, height)


def heif(items: Sequence[Item], references: Sequence[Reference] = (), primary: int = 1, extra: bytes = b"") -> bytes:
    """Return a file with these items, which are numbered from 1; `extra` is appended to the ``meta`` box."""
    properties, associations = [], b""
    for number, item in enumerate(items, 1):
        own = [full_box(b"ispe", 0, struct.pack(">II", item.width, item.height))]
        own += [item.configuration] if item.configuration else []
        first = len(properties) + 1
        properties += own
        indices = b"".join(struct.pack(">H", first + offset) for offset in range(len(own)))
        associations += struct.pack(">HB", number, len(own)) + indices
    entries = [full_box(b"infe", 2, struct.pack(">HH4sB", n, 0, item.kind, 0)) for n, item in enumerate(items, 1)]
    links = [
        box(kind, struct.pack(">HH", start, len(targets)), b"".join(struct.pack(">H", target) for target in targets))
        for start, kind, targets in references
    ]

    def meta(offset: int) -> bytes:
        locations, at = b"", offset
        for number, item in enumerate(items, 1):
            locations += struct.pack(">HHHII", number, 0, 1, at, len(item.data))
            at += len(item.data)
        return full_box(
            b"meta",
            0,
            full_box(b"hdlr", 0, struct.pack(">I4s13x", 0, b"pict")),
            full_box(b"pitm", 0, struct.pack(">H", primary)),
            full_box(b"iloc", 0, struct.pack(">BBH", 0x44, 0, len(items)), locations),
            full_box(b"iinf", 0, struct.pack(">H", len(items)), *entries),
            full_box(b"iref", 0, *links) if links else b"",
            box(
                b"iprp",
                box(b"ipco", *properties),
                box(b"ipma", struct.pack(">I", 1), struct.pack(">I", len(items)), associations),
            ),
            extra,
        )

    start = box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    head = start + meta(len(start) + len(meta(0)) + 8)
    return head + box(b"mdat", *(item.data for item in items))
