"""Encoding of pixels as PNG, WebP, JPEG or AVIF, with a parallel PNG encoder that is many times as fast as Pillow's.

PNG is W3C's "Portable Network Graphics (PNG) Specification (Third Edition)", 2025. Strips of rows are filtered and
compressed in parallel by ISA-L, which takes a quarter of zlib's time. Deflate streams that end at a byte boundary can be
concatenated, and their checksums combined.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from isal import isal_zlib
from PIL import Image, features

from rmbg.errors import OptionError, printable
from rmbg.images.pixels import Color, blend
from rmbg.runtime.threads import run_parallel

#: Rows that a thread compresses at a time.
STRIP_ROWS = 256

#: Rows that are filtered at a time, so that they fit into the CPU's cache.
FILTER_ROWS = 32

#: The filter of a wide row is chosen on one of `SAMPLE_STEP` blocks of pixels.
SAMPLE_STEP, BLOCK_PIXELS = 4, 64

#: Of ISA-L's levels 0 to 3; photos become no smaller by a higher one.
COMPRESSION_LEVEL = 2

#: Strips that ISA-L reduces to less than one part in this are of flat colors, which zlib's run-length encoding reduces further.
FLAT = 100

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOR_TYPES = {1: 0, 3: 2, 4: 6}


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode a picture as PNG.

    Parameters
    ----------
    pixels : uint8 array (H, W), (H, W, 3) or (H, W, 4)
        Grayscale, RGB, or RGB with straight alpha.

    Returns
    -------
    bytes
        Contents of a PNG file.
    """
    height, width = pixels.shape[:2]
    depth = pixels.shape[2] if pixels.ndim == 3 else 1
    rows = np.ascontiguousarray(pixels).reshape(height, width * depth)

    def compress(top: int) -> tuple[bytes, int, int]:
        """Return the deflate stream of the strip from row `top` on, and checksum and size of its uncompressed data."""
        filtered = filter_rows(rows, top, min(top + STRIP_ROWS, height), depth)
        last = top + STRIP_ROWS >= height
        compressor = isal_zlib.compressobj(COMPRESSION_LEVEL, isal_zlib.DEFLATED, -isal_zlib.MAX_WBITS)
        data = compressor.compress(filtered.data) + compressor.flush(isal_zlib.Z_FINISH if last else isal_zlib.Z_FULL_FLUSH)
        if len(data) * FLAT < filtered.size:
            runs = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
            data = runs.compress(filtered.data) + runs.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)
        return data, isal_zlib.adler32(filtered.data), filtered.size

    strips = run_parallel(compress, range(0, height, STRIP_ROWS))
    checksum = 1
    for _, part, size in strips:
        checksum = combine_adler32(checksum, part, size)
    body = b"".join([b"\x78\x01", *(data for data, _, _ in strips), struct.pack(">I", checksum)])
    header = struct.pack(">IIBBBBB", width, height, 8, COLOR_TYPES[depth], 0, 0, 0)
    return SIGNATURE + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def filter_rows(rows: np.ndarray, top: int, bottom: int, depth: int) -> np.ndarray:
    """Filter rows `top` to `bottom`, each by the filter with the smallest sum of absolute differences in a sample of pixels.

    Parameters
    ----------
    rows : uint8 array (H, W * depth)
    depth : int
        Bytes per pixel.

    Returns
    -------
    uint8 array (bottom - top, 1 + W * depth)
        Each row begins with its filter type: 1 Sub (left), 2 Up (above) or 3 Average of both. None and Paeth are not used, as
        they take more time than they save bytes.
    """
    result = np.empty((bottom - top, 1 + rows.shape[1]), np.uint8)
    for start in range(top, bottom, FILTER_ROWS):
        current = rows[start : min(start + FILTER_ROWS, bottom)]
        target = result[start - top : start - top + len(current)]
        before = rows[start - 1 : start] if start else np.zeros_like(current[:1])
        if not current.max() and not before.max():  # the transparent part of a cutout
            target[:] = 0
            target[:, 0] = 1
            continue
        above = np.concatenate([before, current[:-1]])
        best = _choose_filters(current, above, depth)
        target[:, 0] = best + 1
        for index in range(3):
            chosen = best == index
            if not chosen.any():
                continue
            values, up = (current, above) if chosen.all() else (current[chosen], above[chosen])
            if index == 1:
                target[chosen, 1:] = values - up
                continue
            left = np.zeros_like(values)
            left[:, depth:] = values[:, :-depth]
            target[chosen, 1:] = values - (left if index == 0 else _mean(left, up))
    return result


def _choose_filters(current: np.ndarray, above: np.ndarray, depth: int) -> np.ndarray:
    """Index of the filter for each row, 0 to 2 in the order of `filter_rows`, from a sample of its pixels: intp (n,)."""
    block = BLOCK_PIXELS * depth
    width = current.shape[1] // (SAMPLE_STEP * block) * SAMPLE_STEP * block
    if width:
        current, above = (rows[:, :width].reshape(len(rows), -1, block)[:, ::SAMPLE_STEP] for rows in (current, above))
        current, above = np.ascontiguousarray(current), np.ascontiguousarray(above)
    sample, up, left = current[..., depth:], above[..., depth:], current[..., :-depth]
    choices = [sample - neighbor for neighbor in (left, up, _mean(left, up))]
    # modulo 256: 253 is -3
    sizes = [np.minimum(choice, -choice).reshape(len(choice), -1).sum(1, dtype=np.uint32) for choice in choices]
    return np.argmin(sizes, 0)


def _mean(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean rounded down, without overflow."""
    return (first & second) + ((first ^ second) >> 1)


def combine_adler32(first: int, second: int, size: int) -> int:
    """Return the Adler-32 (RFC 1950) of two concatenated parts, from the checksum of each and the size of the second."""
    base = 65521
    low = (first & 0xFFFF) + (second & 0xFFFF) - 1
    high = (first >> 16) + (second >> 16) + size * ((first & 0xFFFF) - 1)
    return (high % base) << 16 | low % base


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a PNG chunk: length, type, data, CRC."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", isal_zlib.crc32(data, isal_zlib.crc32(kind)))


# All formats.


@dataclass(frozen=True)
class Format:
    """An output format: names, MIME type and capabilities."""

    id: str
    title: str
    suffix: str
    mime: str
    alpha: bool
    lossy: bool


FORMATS = {
    "png": Format("png", "PNG", ".png", "image/png", alpha=True, lossy=False),
    "webp": Format("webp", "WebP (lossless)", ".webp", "image/webp", alpha=True, lossy=False),
    "webp-lossy": Format("webp-lossy", "WebP (smaller)", ".webp", "image/webp", alpha=True, lossy=True),
    "jpeg": Format("jpeg", "JPEG (no transparency)", ".jpg", "image/jpeg", alpha=False, lossy=True),
    "avif": Format("avif", "AVIF (smallest)", ".avif", "image/avif", alpha=True, lossy=True),
}
QUALITY = 90

#: Maximum width and height of a format, in pixels.
LONGEST = {"webp": 16383, "webp-lossy": 16383, "jpeg": 65500, "avif": 32768}


def available() -> list[Format]:
    """Return the formats that the installed Pillow can encode."""
    return [f for f in FORMATS.values() if f.id != "avif" or features.check("avif")]


def format_named(name: str) -> Format:
    """Return the format with an id or file suffix, in any case, with or without a dot.

    Raises
    ------
    OptionError
        If there is no such format.
    """
    key = name.lower().lstrip(".")
    key = {"jpg": "jpeg", "jpe": "jpeg", "jfif": "jpeg"}.get(key, key)
    if key not in {f.id for f in available()}:
        raise OptionError(
            f"There is no output format {printable(name, 60)!r}. Choose from {', '.join(f.id for f in available())}."
        )
    return FORMATS[key]


def check_quality(quality: int) -> None:
    """Raise OptionError unless `quality` is 1 to 100."""
    if not 1 <= quality <= 100:
        raise OptionError(f"The quality is {quality}; it must be between 1 and 100.")


def check_size(form: Format, width: int, height: int) -> None:
    """Raise OptionError if width or height exceeds the limit of the format."""
    if max(width, height) > LONGEST.get(form.id, 2**31):
        raise OptionError(f"{form.title} holds at most {LONGEST[form.id]} pixels a side. Choose PNG.")


def encode(
    pixels: np.ndarray, form: Format, *, quality: int = QUALITY, matte_color: Color = (255, 255, 255), quick: bool = False
) -> bytes:
    """Encode a picture.

    Parameters
    ----------
    pixels : uint8 array (H, W), (H, W, 3) or (H, W, 4)
        A mask, a picture, or a cutout with straight alpha.
    form : Format
    quality : int
        1 to 100, for lossy formats.
    matte_color : (red, green, blue)
        Background of transparent pixels in formats without alpha.
    quick : bool
        Encode faster into more bytes, for previews.

    Returns
    -------
    bytes
        Contents of a file.

    Raises
    ------
    OptionError
        If the quality is out of range or the picture exceeds the size limit of the format.
    """
    check_quality(quality)
    check_size(form, pixels.shape[1], pixels.shape[0])
    if pixels.ndim == 3 and pixels.shape[2] == 4 and not form.alpha:
        alpha = pixels[..., 3].astype(np.float32) * np.float32(1 / 255)
        pixels = blend(pixels[..., :3], alpha, np.array(matte_color, np.uint8))
    if form.id == "png":
        return encode_png(pixels)
    image = Image.fromarray(pixels)
    out = io.BytesIO()
    match form.id:
        case "webp":
            image.save(out, "WEBP", lossless=True, quality=40, method=2, exact=True)
        case "webp-lossy":
            image.save(out, "WEBP", quality=quality, alpha_quality=100, method=0 if quick else 4)
        case "jpeg":
            # Without optimize=True, which needs the whole file in one buffer: Pillow's is too small for noisy photos.
            image.save(out, "JPEG", quality=quality, subsampling=0 if quality >= 90 else 2)
        case "avif":
            image.save(out, "AVIF", quality=quality, speed=8)
    return out.getvalue()
