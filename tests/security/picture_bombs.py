"""Small picture files that take a decoder much time or memory."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image

from rmbg.images.decode import formats

Entry = tuple[int, int, int, int]


def jpeg(scans: int = 0, side: int = 64, header: bytes = b"", **options: object) -> bytes:
    """Return a JPEG with `scans` redundant scans, and `header` before its first segment."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), (120, 90, 40)).save(out, "JPEG", progressive=scans > 0, **options)
    data = out.getvalue()
    end = data.rindex(b"\xff\xd9")
    return data[:2] + header + data[2:end] + data[data.rindex(b"\xff\xda") : end] * scans + data[end:]


def directory(entries: list[Entry], order: str = "<") -> bytes:
    packed = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    return struct.pack(f"{order}H", len(entries)) + packed + bytes(4)


def tiff(extra: list[Entry], size: int, magic: bytes = b"II*\0") -> bytes:
    """Return a gray TIFF of 64 x 64 pixels with additional entries, padded to `size` bytes."""
    order = "<" if magic[:1] == b"I" else ">"
    high = 1 if order == "<" else 1 << 16  # a 16-bit value occupies the first half of its field
    shorts = [(256, 64), (257, 64), (258, 8), (259, 1), (262, 1), (277, 1), (278, 64)]
    entries: list[Entry] = [(tag, 3, 1, value * high) for tag, value in shorts]
    entries += [(273, 4, 1, 8), (279, 4, 1, 4096), *extra]
    return (magic + struct.pack(f"{order}I", 8) + directory(sorted(entries), order)).ljust(size, b"\0")


def overlapping(count: int, size: int, magic: bytes = b"II*\0") -> bytes:
    """Return a directory whose entries all refer to the same bytes."""
    return tiff([(40_000 + tag, 1, size, 8) for tag in range(count)], size + 8, magic)


def strips(count: int) -> bytes:
    """Return a TIFF with more strips than rows."""
    data = bytearray(tiff([], 4096 + 4 * count))
    for tag in (273, 279):
        at = data.index(struct.pack("<HHI", tag, 4, 1))
        data[at : at + 12] = struct.pack("<HHII", tag, 4, count, 4096)
    return bytes(data)


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(*chunks: bytes) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "PNG")
    data = out.getvalue()
    return data[:33] + b"".join(chunks) + data[33:]


def in_exif(form: str, exif: bytes) -> bytes:
    """Return a picture with this EXIF data; in a JPEG it is split over several segments."""
    if form == "JPEG":
        return jpeg(header=b"".join(segment(b"Exif\0\0" + exif[at : at + 65_000]) for at in range(0, len(exif), 65_000)))
    if form == "PNG":
        return png(chunk(b"eXIf", exif))
    if form == "PNG text":
        text = f"\nexif\n{len(exif):8}\n{exif.hex()}".encode()
        return png(chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text)))
    formats()  # registers HEIF
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, form, exif=exif)
    return out.getvalue()


def segment(data: bytes, marker: int = 0xE1) -> bytes:
    return b"\xff" + bytes([marker]) + struct.pack(">H", len(data) + 2) + data


def gif_comment(size: int) -> bytes:
    """Return a GIF with a comment in blocks of one byte."""
    out = io.BytesIO()
    Image.new("P", (64, 64)).save(out, "GIF")
    data = out.getvalue()
    at = data.index(b",", 13)
    return data[:at] + b"!\xfe" + b"\x01a" * (size // 2) + b"\0" + data[at:]
