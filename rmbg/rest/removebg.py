"""Requests and errors of remove.bg's API, without I/O."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from rmbg.errors import InputError, NoSubjectError, NotReadyError, OptionError, RmbgError, ServiceError, check_text
from rmbg.matting.edges import AlphaMatting, EdgeSettings
from rmbg.net import download
from rmbg.providers import Provider, find
from rmbg.rest.parameters import PARAMETERS, SIZES, Parameter
from rmbg.runtime.messages import public_text
from rmbg.settings import Settings

#: Status and title of the errors by code; the code of an invalid parameter is ``invalid_`` and its name.
CODES = {
    "missing_source": (400, "The request has no picture"),
    "multiple_sources": (400, "The request has more than one picture"),
    "multiple_bg_sources": (400, "The request has more than one background"),
    "invalid_request": (400, "The request is invalid"),
    "invalid_file_type": (400, "The file is not a picture of a supported format"),
    "failed_to_read_image": (400, "The picture cannot be read"),
    "file_too_large": (400, "The file is too large"),
    "resolution_too_high": (400, "The picture has too many pixels"),
    "failed_image_download": (400, "The picture cannot be downloaded"),
    "failed_bg_download": (400, "The background cannot be downloaded"),
    "roi_exceeds_bounds": (400, "The region of interest exceeds the picture"),
    "roi_region_empty": (400, "The region of interest is empty"),
    "unknown_foreground": (400, "No subject was found in the picture"),
    "insufficient_credits": (402, "The API key has no credits left"),
    "auth_failed": (403, "The API key is missing or invalid"),
    "method_not_allowed": (405, "The method is not allowed"),
    "rate_limit_exceeded": (429, "Too many requests"),
    "internal_error": (500, "The request failed"),
    "provider_failed": (502, "The provider failed"),
    "provider_not_ready": (503, "The provider is not ready"),
}

#: Seconds after which a request that was refused because of the load may be repeated.
RETRY_SECONDS = 10


@dataclass(frozen=True)
class Answer:
    """Response to a request."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class Failure(Exception):  # noqa: N818
    """An error response with a code of `CODES`."""

    def __init__(self, code: str, detail: str = "", retry: int = RETRY_SECONDS) -> None:
        super().__init__(detail)
        self.code, self.detail, self.retry = code, detail, retry

    def answer(self) -> Answer:
        """Return the response in the format of remove.bg."""
        status, title = CODES.get(self.code, (400, f"The parameter {self.code.partition('_')[2]} is invalid"))
        error = {"title": title, "code": self.code} | ({"detail": self.detail} if self.detail else {})
        headers = {"Retry-After": str(self.retry)} if status in (429, 503) else {}
        return Answer(status, json.dumps({"errors": [error]}).encode(), headers=headers)


def failure_of(error: RmbgError, *, shared: bool) -> Failure:
    """Return the failure that reports an error of the package, without advice for the owner if the server is shared."""
    kinds = (
        (NoSubjectError, "unknown_foreground"),
        (InputError, "invalid_request"),
        (NotReadyError, "provider_not_ready"),
        (ServiceError, "provider_failed"),
    )
    code = next((code for kind, code in kinds if isinstance(error, kind)), "internal_error")
    return Failure(code, public_text(str(error), shared=shared))


@dataclass(frozen=True, eq=False)
class Removal:
    """A validated request.

    Attributes
    ----------
    source : bytes or str
        Content of the picture, or its URL.
    backdrop : bytes, str or None
        Content or URL of a picture as background.
    values : mapping of str to Any
        Of all other parameters.
    provider : Provider
    edges : EdgeSettings
    alpha_matting : AlphaMatting or None
    """

    source: bytes | str
    backdrop: bytes | str | None
    values: Mapping[str, Any]
    provider: Provider
    edges: EdgeSettings
    alpha_matting: AlphaMatting | None

    @property
    def is_preview(self) -> bool:
        """True if the result has the size of a preview, which takes a quarter of a credit."""
        return SIZES.get(self.values["size"]) == SIZES["preview"]


def parse(given: Mapping[str, Any], settings: Settings) -> Removal:
    """Validate the fields of a request.

    Parameters
    ----------
    given : mapping of str to text, number, bool or bytes
        The content of files as bytes; unknown fields are ignored, and empty ones have their defaults.
    settings : Settings

    Raises
    ------
    Failure
        If a value is invalid, or there is not exactly one picture.
    """
    fields = {name: value for name, value in given.items() if value not in ("", b"", None)}
    source = _picture(fields, ("image_file", "image_file_b64", "image_url"), "multiple_sources")
    if source is None:
        raise Failure("missing_source", "Pass it as image_file, image_file_b64 or image_url.")
    if sum(name in fields for name in ("bg_color", "bg_image_url", "bg_image_file", "rmbg_background")) > 1:
        raise Failure("multiple_bg_sources", "Pass one of bg_color, bg_image_url, bg_image_file and rmbg_background.")
    backdrop = _picture(fields, ("bg_image_file", "bg_image_url"), "multiple_bg_sources")
    values = {p.name: _value(p, fields.get(p.name, p.default)) for p in PARAMETERS if p.name not in _PICTURES}
    if values["crop"] and values["rmbg_canvas"] is not None:
        raise Failure("invalid_rmbg_canvas", "Both crop and rmbg_canvas are given. Use one of them.")
    try:
        provider = find(values["rmbg_provider"] or settings.rest_provider, settings)
    except OptionError as error:
        raise Failure("invalid_rmbg_provider", public_text(str(error), shared=settings.shared)) from None
    edges = EdgeSettings(**_settings(values, EdgeSettings, "rmbg_"))
    method, alpha_matting = values["rmbg_alpha_matting"], None
    if method != "none":
        try:
            alpha_matting = AlphaMatting(**_settings(values, AlphaMatting, "rmbg_alpha_matting_"), method=method)
        except OptionError as error:
            raise Failure("invalid_rmbg_alpha_matting", str(error)) from None
    return Removal(source, backdrop, values, provider, edges, alpha_matting)


_PICTURES = ("image_file", "image_file_b64", "image_url", "bg_image_file", "bg_image_url")


def _settings(values: Mapping[str, Any], kind: type, prefix: str) -> dict[str, Any]:
    return {f.name: values[prefix + f.name] for f in fields(kind) if prefix + f.name in values}


def _value(parameter: Parameter, value: Any) -> Any:
    try:
        if not isinstance(value, (str, int, float)):
            raise OptionError(f"{parameter.name} must be a text.")
        return parameter.parse(value)
    except OptionError as error:
        raise Failure(f"invalid_{parameter.name}", str(error)) from None


def _picture(given: Mapping[str, Any], names: tuple[str, ...], multiple: str) -> bytes | str | None:
    """Return the content or the URL of the picture in one of the fields `names`; None without one."""
    found = [name for name in names if name in given]
    if len(found) > 1:
        raise Failure(multiple, f"Pass one of {', '.join(names)}.")
    for name in found:
        value = given[name]
        if isinstance(value, bytes) != name.endswith("_file") or not isinstance(value, (bytes, str)):
            raise Failure(f"invalid_{name}", f"{name} must be a {'file' if name.endswith('_file') else 'text'}.")
        if isinstance(value, bytes):
            return value
        try:
            if name.endswith("_url"):
                download.parse(check_text(value, name))
                return value
            return base64.b64decode("".join(value.rpartition(",")[2].split()), validate=True)
        except InputError as error:
            raise Failure(f"invalid_{name}", str(error)) from None
        except ValueError:
            raise Failure("failed_to_read_image", f"{name} is not valid base64.") from None
    return None
