"""Generated pictures of a visitor's last run in the Replace tab."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Picture:
    """One generated picture: its size, its file, and smaller files for the page."""

    width: int
    height: int
    path: str
    preview: str
    thumbnail: str


@dataclass(frozen=True)
class Replacement:
    """The pictures of one run.

    Attributes
    ----------
    prompt : str
        Description of the background.
    photo : str
        Path of the photo at screen size.
    pictures : tuple of Picture
        At least one.
    facts : str
        HTML of the line below the pictures.
    """

    prompt: str
    photo: str
    pictures: tuple[Picture, ...]
    facts: str
