"""Check of the structure of HEIC files, whose few bytes can describe hours of decoding.

A picture may be composed of tiles and layers, each of them a reference to the same compressed picture of any size. libheif
decodes every reference. The check reads the boxes of ISO 14496-12 and ISO 23008-12 in time linear in the size of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from PIL import UnidentifiedImageError

#: Limit for the pixels that are decoded for one picture: a multiple of its own pixels, and a constant for the padding of small
#: ones. Tiles of a phone's photo exceed it by a few percent.
MAX_RATIO, MAX_PADDING = 8, 8_000_000

#: Limit for the references of a file; the most tiles that libheif accepts.
MAX_REFERENCES = 1000

#: Limits for the boxes in a box, and for the bytes of references and properties; 1000 tiles take some 50 kB.
MAX_BOXES, MAX_STRUCTURE = 10_000, 1_000_000

#: Levels of pictures composed of composed pictures.
MAX_DEPTH = 4


@dataclass
class _Items:
    """Pixels of each item, items from which it is composed, and items that it belongs to, such as the picture of an alpha."""

    pixels: dict[int, int] = field(default_factory=dict)
    parts: dict[int, list[int]] = field(default_factory=dict)
    owners: dict[int, list[int]] = field(default_factory=dict)
    costs: dict[int, int] = field(default_factory=dict)

    def cost(self, item: int, depth: int = 0) -> int:
        """Return the number of pixels that are decoded for an item."""
        if depth > MAX_DEPTH:
            raise OSError("its pictures are nested too deeply")
        if not self.pixels.get(item):
            raise OSError("a part of it has no size")
        if item not in self.costs:
            parts = sum(self.cost(part, depth + 1) for part in self.parts.get(item, ()))
            self.costs[item] = self.pixels[item] + parts
        return self.costs[item]


def check_heif(data: bytes) -> None:
    """Raise OSError if a picture of a HEIC file takes far more decoding than its size accounts for.

    Raises
    ------
    UnidentifiedImageError
        If the file has no items, or its boxes are truncated.
    """
    try:
        items = _read(data)
    except (struct.error, IndexError):
        raise UnidentifiedImageError from None
    if sum(map(len, [*items.parts.values(), *items.owners.values()])) > MAX_REFERENCES:
        raise OSError(f"it has more than {MAX_REFERENCES:,} references between its pictures")
    for item in items.parts:
        _check_ratio(items.cost(item), items.pixels[item])
    for item, owners in items.owners.items():
        _check_ratio(items.cost(item), max(items.pixels.get(owner, 0) for owner in owners))


def _check_ratio(cost: int, pixels: int) -> None:
    if cost > MAX_RATIO * pixels + MAX_PADDING:
        raise OSError("its parts have many times the pixels of the picture")


def _read(data: bytes) -> _Items:
    metas = [body for kind, body in _boxes(memoryview(data)) if kind == b"meta"]
    if len(metas) != 1:
        raise UnidentifiedImageError
    items, sizes = _Items(), []
    boxes = list(_boxes(metas[0][4:]))
    names = [kind for kind, _ in boxes]
    if any(names.count(kind) > 1 for kind in (b"pitm", b"iinf", b"iloc", b"iref", b"iprp")):
        raise UnidentifiedImageError  # decoders differ in the one that they use
    for kind, body in boxes:
        if kind in (b"iref", b"iprp") and len(body) > MAX_STRUCTURE:
            raise OSError("the list of its pictures is too long")
        if kind == b"iref":
            _read_references(body, items)
        elif kind == b"iprp":
            properties = list(_boxes(body))
            sizes = [_pixels(name, own) for box, part in properties if box == b"ipco" for name, own in _boxes(part)]
            for box, part in properties:
                if box == b"ipma":
                    _read_associations(part, sizes, items)
    return items


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield type and contents of consecutive boxes."""
    at = number = 0
    while at + 8 <= len(data):
        number += 1
        if number > MAX_BOXES:
            raise OSError(f"it has more than {MAX_BOXES:,} boxes")
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        elif size == 0:  # up to the end
            size = len(data) - at
        if size < head:
            raise UnidentifiedImageError
        yield kind, data[at + head : at + size]
        at += size


def _pixels(kind: bytes, body: memoryview) -> int | None:
    """Return width times height if a property is the size of a picture."""
    if kind != b"ispe":
        return None
    width, height = struct.unpack_from(">II", body, 4)
    return width * height


def _read_references(body: memoryview, items: _Items) -> None:
    width = "I" if body[0] else "H"
    size = struct.calcsize(f">{width}")
    for kind, part in _boxes(body[4:]):
        start, count = struct.unpack_from(f">{width}H", part)
        targets = struct.unpack_from(f">{count}{width}", part, size + 2)
        if kind == b"dimg":
            items.parts.setdefault(start, []).extend(targets)
        elif kind == b"auxl":
            items.owners.setdefault(start, []).extend(targets)


def _read_associations(body: memoryview, sizes: list[int | None], items: _Items) -> None:
    """Assign the sizes of the property container to the items."""
    wide = body[3] & 1
    (entries,) = struct.unpack_from(">I", body, 4)
    at = 8
    for _ in range(entries):
        item, count = struct.unpack_from(">IB" if body[0] else ">HB", body, at)
        at += 5 if body[0] else 3
        for index in struct.unpack_from(f">{count}{'H' if wide else 'B'}", body, at):
            number = index & (0x7FFF if wide else 0x7F)
            pixels = sizes[number - 1] if 0 < number <= len(sizes) else None
            if pixels is not None:
                items.pixels[item] = max(pixels, items.pixels.get(item, 0))
        at += count * (2 if wide else 1)
