"""The OpenAPI 3.1 document of the API. https://spec.openapis.org/oas/v3.1.1.html"""

from __future__ import annotations

from typing import Any

from rmbg.rest.clients import RATE_HEADERS
from rmbg.rest.parameters import PARAMETERS, Parameter
from rmbg.rest.removebg import CODES
from rmbg.version import __version__

#: Headers of a result and their types.
HEADERS = {
    "X-Width": "integer",
    "X-Height": "integer",
    "X-Type": "string",
    "X-Credits-Charged": "number",
    **{f"X-Foreground-{name}": "integer" for name in ("Top", "Left", "Width", "Height")},
    **dict.fromkeys(RATE_HEADERS, "integer"),
}

MEDIA_TYPES = ("image/png", "image/jpeg", "image/webp", "application/zip")

FACTS = ("foreground_top", "foreground_left", "foreground_width", "foreground_height")


def schema(parameter: Parameter) -> dict[str, Any]:
    """Return the JSON schema of a parameter."""
    text = parameter.help if parameter.used else f"{parameter.help} Accepted without effect."
    result: dict[str, Any] = {"description": text}
    if parameter.file:
        return result | {"type": "string", "format": "binary"}
    result["type"] = {"bool": "boolean", "int": "integer", "float": "number"}.get(parameter.kind, "string")
    if parameter.choices:
        result["enum"] = list(parameter.choices)
    for name, limit in (("minimum", parameter.minimum), ("maximum", parameter.maximum)):
        if limit is not None:
            result[name] = limit
    return result | ({} if parameter.default == "" else {"default": parameter.default})


def document() -> dict[str, Any]:
    """Return the document as a JSON object."""
    texts = _body([parameter for parameter in PARAMETERS if not parameter.file])
    content = {
        "multipart/form-data": _body(PARAMETERS),
        "application/x-www-form-urlencoded": texts,
        "application/json": texts,
    }
    properties = {"result_b64": {"type": "string", "contentEncoding": "base64"}} | {name: {"type": "integer"} for name in FACTS}
    data = {"type": "object", "required": list(properties), "properties": properties}
    as_json = {"schema": {"type": "object", "required": ["data"], "properties": {"data": data}}}
    removed = {
        "description": "The picture, or a JSON object if the header Accept has application/json.",
        "headers": {name: {"schema": {"type": kind}} for name, kind in HEADERS.items()},
        "content": {**{media_type: {} for media_type in MEDIA_TYPES}, "application/json": as_json},
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "RMBG Studio, API of remove.bg 1.0",
            "version": __version__,
            "description": "Parameters that are not listed are ignored.",
        },
        "servers": [{"url": "../v1.0"}],
        "security": [{}, {"key": []}],
        "paths": {
            "/removebg": {
                "post": {
                    "summary": "Remove the background of a picture",
                    "requestBody": {"required": True, "content": content},
                    "responses": {"200": removed, **_errors()},
                }
            },
            "/account": {"get": {"summary": "Credits of the API key", "responses": {"200": _object("The credits.")}}},
            "/improve": {"post": {"summary": "Discard a picture", "responses": {"200": _object("Nothing was stored.")}}},
        },
        "components": {
            "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"}},
            "schemas": {"Errors": _errors_schema()},
        },
    }


def _body(parameters: Any) -> dict[str, Any]:
    return {"schema": {"type": "object", "properties": {parameter.name: schema(parameter) for parameter in parameters}}}


def _object(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": {"type": "object"}}}}


def _errors() -> dict[str, Any]:
    """Return the error responses by status."""
    found: dict[str, Any] = {}
    for code, (status, _) in CODES.items():
        found.setdefault(str(status), []).append(code)
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Errors"}}}
    return {status: {"description": ", ".join(codes), "content": content} for status, codes in found.items()}


def _errors_schema() -> dict[str, Any]:
    text = {"type": "string"}
    error = {"type": "object", "required": ["title", "code"], "properties": {"title": text, "code": text, "detail": text}}
    return {"type": "object", "required": ["errors"], "properties": {"errors": {"type": "array", "items": error}}}
