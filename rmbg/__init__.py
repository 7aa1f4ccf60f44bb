"""Take the background off a picture: local networks and remote services behind one call.

>>> from rmbg import remove_background
>>> cutout = remove_background("photo.jpg")  # doctest: +SKIP
"""

from rmbg.cutout import Cost, Cutout
from rmbg.errors import (
    CancelledError,
    InputError,
    ModelError,
    NoSubjectError,
    NotReadyError,
    OptionError,
    OutputError,
    PhotoError,
    RmbgError,
    ServiceError,
)
from rmbg.photo import Photo, open_photo
from rmbg.providers import providers
from rmbg.remove import remove_background
from rmbg.replace import replace_background

__version__ = "0.1.0"

__all__ = [
    "CancelledError",
    "Cost",
    "Cutout",
    "InputError",
    "ModelError",
    "NoSubjectError",
    "NotReadyError",
    "OptionError",
    "OutputError",
    "Photo",
    "PhotoError",
    "RmbgError",
    "ServiceError",
    "__version__",
    "open_photo",
    "providers",
    "remove_background",
    "replace_background",
]
