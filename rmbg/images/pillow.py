"""Process-wide configuration of Pillow; applied before the first picture is decoded, not on import."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import warnings

from PIL import Image

#: Formats that are decoded. Pillow supports forty more; some of them start other programs (EPS), the rest add attack surface.
FORMATS = ("AVIF", "BMP", "DIB", "GIF", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP")

#: Limit for a text chunk or color profile of a PNG, in bytes.
MAX_TEXT_CHUNK = 16 << 20


@functools.cache
def configure() -> None:
    """Set the limits and silence the warnings of Pillow that apply to every picture of the process; idempotent.

    Pillow has no per-image setting for these. They are set on the first decode, so that a program that only imports the
    package keeps its own configuration.
    """
    from PIL import PngImagePlugin  # deferred, as those in `formats`

    # Pillow rejects PNG files whose color profile or text exceeds 1 MiB. Valid CMYK profiles and editing histories do.
    PngImagePlugin.MAX_TEXT_CHUNK = max(PngImagePlugin.MAX_TEXT_CHUNK, MAX_TEXT_CHUNK)
    # Our own pixel limit is lower and raises an error, so the warning would only repeat it on the terminal.
    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    # Pillow warns of invalid metadata that is not used. Damage that matters is reported once, as a PhotoError.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    # Without a handler, logging prints Pillow's errors on metadata to standard error.
    logging.getLogger("PIL").addHandler(logging.NullHandler())


def raise_pixel_limit(max_pixels: int) -> None:
    """Raise Pillow's own pixel limit to at least `max_pixels`; otherwise it rejects what RMBG_MAX_PIXELS permits."""
    if Image.MAX_IMAGE_PIXELS is not None and max_pixels > Image.MAX_IMAGE_PIXELS:
        Image.MAX_IMAGE_PIXELS = max_pixels


@functools.cache
def formats() -> tuple[str, ...]:
    """Return those of `FORMATS` that can be decoded here; the first call registers the decoder of HEIC photos."""
    Image.preinit()  # BMP, GIF, JPEG and PNG; `Image.init` imports forty formats, which takes longer than to decode a photo
    for name in ("Avif", "Mpo", "Tiff", "WebP"):
        with contextlib.suppress(ImportError):
            importlib.import_module(f"PIL.{name}ImagePlugin")
    try:
        import pillow_heif

        # Thumbnails, depth maps and other auxiliary pictures are not used.
        pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    except ImportError:  # its libraries cannot be loaded on this system
        logging.getLogger(__name__).warning("HEIC photos cannot be decoded: pillow-heif is not installed or does not load.")
    return tuple(name for name in FORMATS if name in Image.OPEN)
