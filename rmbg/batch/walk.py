"""Recursive listing of files and translation of globs."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image

from rmbg.batch.names import label
from rmbg.errors import InputError, reason
from rmbg.images.decode import formats

#: Characters that make a name a glob.
WILDCARD = re.compile(r"[*?\[]")


def walk(
    root: Path,
    exclude: Path | None = None,
    depth: int | None = None,
    unreadable: Callable[[str, OSError], None] = lambda folder, error: None,
) -> Iterator[tuple[str, os.stat_result]]:
    """Yield path and status of the files below a folder, without hidden files.

    Symbolic links to folders are followed, but each folder is visited only once.

    Parameters
    ----------
    root : Path
    exclude : Path, optional
        Folder that is skipped.
    depth : int, optional
        Number of levels; 1 for the folder itself.
    unreadable : callable (folder, error), optional
        Called for each folder below `root` that cannot be read.

    Raises
    ------
    InputError
        If `root` cannot be read.
    """
    visited: set[tuple[int, int]] = set()
    if exclude is not None and exclude.is_dir():
        visited.add(_identity(exclude.stat()))
    real: deque[tuple[str, int]] = deque([(str(root), 1)])
    linked: deque[tuple[str, int]] = deque()  # visited last, so that a folder is listed under its real path
    while real or linked:
        folder, level = (real or linked).popleft()
        try:
            identity = _identity(Path(folder).stat())
            if identity in visited:
                continue
            visited.add(identity)
            with os.scandir(folder) as found:
                children = [child for child in found if not child.name.startswith(".")]
        except OSError as error:
            if folder == str(root):
                raise InputError(f"The folder {label(root)} could not be read: {reason(error)}.") from None
            if not isinstance(error, FileNotFoundError):  # deleted meanwhile
                unreadable(folder, error)
            continue
        for child in children:
            try:
                if child.is_dir():
                    if depth is None or level < depth:
                        (linked if child.is_symlink() else real).append((child.path, level + 1))
                elif child.is_file():
                    yield child.path, child.stat()
            except OSError:  # deleted meanwhile, or a loop of links
                continue


def stamp_of(info: os.stat_result) -> str:
    """Return size, mtime and ctime of a file as text; ctime detects replacements that preserve the mtime."""
    return f"{info.st_size}:{info.st_mtime_ns}:{info.st_ctime_ns}"


def is_picture(name: str) -> bool:
    """True if the file name has the suffix of a supported format."""
    known = formats()  # registers the suffixes with Pillow
    return Image.EXTENSION.get("." + name.rpartition(".")[2].lower()) in known


def split_glob(pattern: str) -> tuple[str, list[str]]:
    """Return the folder before the first wildcard of a glob and the remaining parts."""
    parts = pattern.split("/")
    first = next(i for i, part in enumerate(parts) if WILDCARD.search(part))
    return "/".join(parts[:first]) or ("/" if pattern.startswith("/") else ""), parts[first:]


def translate_glob(parts: list[str]) -> re.Pattern[str]:
    """Return a glob as a regular expression; ``**`` matches any number of folders."""
    pattern = ""
    for part in parts[:-1]:
        pattern += "(?:[^/]+/)*" if part == "**" else _translate_part(part) + "/"
    return re.compile(pattern + (".*" if parts[-1] == "**" else _translate_part(parts[-1])))


def _translate_part(part: str) -> str:
    tokens = re.findall(r"\*+|\?|\[!?\]?[^\]]*\]|.", part, re.DOTALL)
    return "".join(_translate_token(token) for token in tokens)


def _translate_token(token: str) -> str:
    if token.startswith("*"):
        return "[^/]*"
    if token == "?":
        return "[^/]"
    if len(token) > 2 and token.startswith("["):
        negated = token[1] == "!"
        inside = "".join(c if c.isalnum() or c == "-" else f"\\{c}" for c in token[2 if negated else 1 : -1])
        return f"[{'^/' if negated else ''}{inside}]"
    return re.escape(token)


def _identity(info: os.stat_result) -> tuple[int, int]:
    return info.st_dev, info.st_ino
