"""Data sets of photos and their true mattes: a folder or zip archive with ``CATEGORY/im/*`` and ``CATEGORY/gt/*``.

Zip archives are read in place. Nothing is extracted, so path traversal and zip bombs cannot reach the disk. All checks
that need only the files' headers run before the first provider is called.
"""

from __future__ import annotations

import hashlib
import lzma
import re
import threading
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

from rmbg.errors import CancelledError, InputError
from rmbg.images.decode import open_image, orientation
from rmbg.images.photo import Photo, open_photo
from rmbg.providers.base import never_cancelled, no_progress
from rmbg.runtime.messages import megabytes, megapixels, public_text
from rmbg.settings import Settings

EXPECTED_LAYOUT = "A data set has folders CATEGORY/im with photos and CATEGORY/gt with their true mattes under the same names."
SUFFIXES = (".avif", ".bmp", ".gif", ".heic", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
MAX_FILES = 200_000

#: A zip archive of pictures, which are compressed already, unpacks to little more than its own size. An archive is refused
#: if it exceeds both limits.
MAX_RATIO, MAX_SMALL_BYTES = 50, 100_000_000

#: Exceptions that reading a damaged zip archive raises.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, EOFError)

#: EXIF orientations with exchanged width and height.
TRANSPOSED = (5, 6, 7, 8)


@dataclass(frozen=True)
class FolderSource:
    """A folder; as in `ZipSource`, `read` returns at most `limit` + 1 bytes of a file."""

    root: Path

    def names(self) -> list[PurePosixPath]:
        files = (file for kind in ("im", "gt") for file in self.root.glob(f"*/{kind}/*") if file.is_file())
        return [PurePosixPath(file.relative_to(self.root).as_posix()) for file in files]

    def read(self, name: PurePosixPath, limit: int) -> bytes:
        with open(self.root / name, "rb") as file:
            return file.read(limit + 1)


@dataclass(frozen=True)
class ZipSource:
    """A zip archive that stays open, so that its central directory is parsed once."""

    path: Path
    archive: zipfile.ZipFile = field(compare=False, repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False, repr=False)

    def names(self) -> list[PurePosixPath]:
        members = [member for member in self.archive.infolist() if not member.is_dir()]
        if len(members) > MAX_FILES:
            count = f"{len(members):,} files, more than the limit of {MAX_FILES:,}"
            raise InputError(f"{self.path.name} holds {count}. Split it into several data sets.")
        unpacked = sum(member.file_size for member in members)
        if unpacked > max(MAX_SMALL_BYTES, MAX_RATIO * self.path.stat().st_size):
            size = f"{megabytes(unpacked)}, more than {MAX_RATIO} times its size"
            raise InputError(f"{self.path.name} unpacks to {size}. Extract it and use the folder.")
        for member in members:
            if member.filename.startswith("/") or ".." in member.filename.split("/") or re.search(r"[\\:]", member.filename):
                name = f"{member.filename[:60]!r}, which points outside the archive"
                raise InputError(f"{self.path.name} holds the name {name}. Create the archive again.")
            if member.flag_bits & 1:
                raise InputError(f"{self.path.name} is encrypted. Extract it and use the folder.")
        return [PurePosixPath(member.filename) for member in members]

    def read(self, name: PurePosixPath, limit: int) -> bytes:
        # ZipFile closes its file when its reference count reaches zero, and the count is not thread-safe.
        with self.lock, self.archive.open(str(name)) as file:
            return file.read(limit + 1)


Source = FolderSource | ZipSource


@dataclass(frozen=True)
class Sample:
    """One photo and its true matte.

    Attributes
    ----------
    category, stem : str
    digest : str
        Hash of both files. Results are stored by it, so they survive renaming and do not survive changes.
    """

    category: str
    stem: str
    digest: str
    source: Source
    photo_name: PurePosixPath
    truth_name: PurePosixPath

    @property
    def id(self) -> str:
        return f"{self.category}/{self.stem}"

    def photo(self, settings: Settings) -> Photo:
        """Decode the photo, with the checks that apply to any photo."""
        data = self.source.read(self.photo_name, settings.max_bytes)
        return open_photo(data, name=self.photo_name.name, settings=settings)

    def truth(self, settings: Settings) -> np.ndarray:
        """Decode the true matte: float32 (H, W), alpha in [0, 1], with a value above 0.5.

        Raises
        ------
        InputError
            If the file is damaged, colored or empty.
        """
        try:
            data = self.source.read(self.truth_name, settings.max_bytes)
            with open_image(data) as image:
                pixels = np.asarray(image.convert("RGB" if image.mode in ("P", "RGB") else "L"))
        except Exception as error:  # Pillow's decoders raise many kinds of exceptions on damaged files
            raise InputError(f"{self.truth_name} is damaged and cannot be read ({error}).") from None
        if pixels.ndim == 3:
            if (pixels != pixels[..., :1]).any():
                raise InputError(f"{self.truth_name} is colored. Use a gray matte that is white where the subject is.")
            pixels = pixels[..., 0]
        truth = pixels.astype(np.float32) / np.float32(255)
        if not (truth > 0.5).any():
            raise InputError(f"{self.truth_name} is empty: it has no pixel with alpha above one half.")
        return truth


@dataclass(frozen=True)
class Dataset:
    """A checked data set; its samples are sorted by category and stem."""

    name: str
    samples: tuple[Sample, ...]

    @property
    def categories(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(sample.category for sample in self.samples))


def open_dataset(
    path: str | Path,
    *,
    settings: Settings | None = None,
    progress: Callable[[float | None, str], None] = no_progress,
    cancelled: Callable[[], bool] = never_cancelled,
) -> Dataset:
    """Open and check a data set.

    Parameters
    ----------
    path : str or Path
        A folder or a zip archive.
    settings : Settings, optional
        Limits for the files; from the environment by default.
    progress : callable (fraction, text), optional
    cancelled : callable () -> bool, optional

    Raises
    ------
    InputError
        If `path` is not a data set, or some of its files cannot be used; the message names the first three.
    CancelledError
        If `cancelled` returned True.
    """
    settings = settings or Settings.from_environ()
    path = Path(path)
    source = _open_source(path)
    pairs, problems = _pair_files(source.names())
    if not pairs and not problems:
        raise InputError(f"{path.name} is not a data set. {EXPECTED_LAYOUT}")
    samples = []
    for done, (category, stem, photo_name, truth_name) in enumerate(pairs):
        if cancelled():
            raise CancelledError("Stopped.")
        progress(done / len(pairs), f"Checking {category}/{stem}")
        try:
            digest = _check_pair(source, photo_name, truth_name, settings)
        except InputError as error:
            problems.append(public_text(str(error), shared=settings.shared))
        else:
            samples.append(Sample(category, stem, digest, source, photo_name, truth_name))
    if problems:
        more = f" And {len(problems) - 3} more such problems." if len(problems) > 3 else ""
        raise InputError(f"{path.name} cannot be used as a data set. {' '.join(problems[:3])}{more}")
    return Dataset(path.stem if path.is_file() else path.resolve().name, tuple(samples))


def _open_source(path: Path) -> Source:
    if path.is_dir():
        return FolderSource(path)
    if not path.exists():
        raise InputError(f"There is no data set {str(path)!r}.")
    try:
        return ZipSource(path, zipfile.ZipFile(path))
    except (OSError, ValueError, *ZIP_ERRORS):
        raise InputError(f"{path.name} is neither a folder nor a complete zip archive. {EXPECTED_LAYOUT}") from None


def _pair_files(names: list[PurePosixPath]) -> tuple[list[tuple[str, str, PurePosixPath, PurePosixPath]], list[str]]:
    """Sorted pairs of photo and matte with the same category and stem, and a sentence for each file that cannot be paired."""
    found: dict[tuple[str, str], dict[str, PurePosixPath]] = {}
    problems, roots = [], set()
    for name in sorted(names):
        parts = name.parts
        system = name.name.lower() in ("thumbs.db", "desktop.ini") or any(part.startswith((".", "__MACOSX")) for part in parts)
        if len(parts) < 3 or parts[-2] not in ("im", "gt") or system:
            continue
        roots.add(parts[:-3])
        if name.suffix.lower() not in SUFFIXES:
            problems.append(f"{name} is not a picture.")
            continue
        pair = found.setdefault((parts[-3], name.stem), {})
        if parts[-2] in pair:
            problems.append(f"{name} and {pair[parts[-2]].name} have the same stem.")
        pair[parts[-2]] = name
    if len(roots) > 1:
        problems.append("It holds more than one data set. Use one of them.")
    pairs = []
    for (category, stem), pair in sorted(found.items()):
        if "gt" not in pair:
            problems.append(f"{pair['im']} has no true matte in gt.")
        elif "im" not in pair:
            problems.append(f"{pair['gt']} has no photo in im.")
        else:
            pairs.append((category, stem, pair["im"], pair["gt"]))
    return pairs, problems


def _check_pair(source: Source, photo_name: PurePosixPath, truth_name: PurePosixPath, settings: Settings) -> str:
    """Check size and mode of both files without decoding them; returns their digest."""
    digest = hashlib.sha256()
    sizes = []
    for name in (photo_name, truth_name):
        try:
            data = source.read(name, settings.max_bytes)
        except (OSError, *ZIP_ERRORS) as error:
            raise InputError(f"{name} cannot be read ({error}).") from None
        if len(data) > settings.max_bytes:
            raise InputError(f"{name} has more than the limit of {megabytes(settings.max_bytes)}.")
        digest.update(len(data).to_bytes(8, "big") + data)
        sizes.append(_upright_size(data, name, settings, truth=name == truth_name))
    if sizes[0] != sizes[1]:
        (width, height), (true_width, true_height) = sizes
        raise InputError(f"{photo_name} is {width} x {height} pixels and its matte {true_width} x {true_height}.")
    return digest.hexdigest()[:32]


def _upright_size(data: bytes, name: PurePosixPath, settings: Settings, *, truth: bool) -> tuple[int, int]:
    """Width and height, for photos with the EXIF orientation applied."""
    try:
        with open_image(data) as image:
            (width, height), mode, turned = image.size, image.mode, orientation(image) in TRANSPOSED
    except Exception as error:  # Pillow's decoders raise many kinds of exceptions on damaged files
        raise InputError(f"{name} is not a picture that can be opened ({type(error).__name__}).") from None
    if width * height > settings.max_pixels:
        raise InputError(f"{name} has {width} x {height} pixels, more than the limit of {megapixels(settings.max_pixels)}.")
    if truth and mode not in ("1", "L", "P", "RGB"):
        raise InputError(f"{name} has the mode {mode}. Save the true matte as 8-bit gray without an alpha channel.")
    return (height, width) if turned and not truth else (width, height)
