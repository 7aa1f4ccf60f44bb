"""Endpoints of the Gradio API and tools of its MCP server, from tables of their parameters, and the parameters of a result."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import gradio as gr

from rmbg.batch.plan import Recipe
from rmbg.errors import OptionError
from rmbg.images import encode
from rmbg.matting.edges import UNCHANGED, AlphaMatting, EdgeSettings
from rmbg.providers import find
from rmbg.providers.base import ProviderInfo
from rmbg.remove import check_alpha_matting
from rmbg.render.backgrounds import Background, parse_background, picture, place_picture
from rmbg.render.canvas import preset_background
from rmbg.render.finishing import Finishing
from rmbg.settings import Settings
from rmbg.ui.components.inputs import photo_input
from rmbg.ui.gradio_overrides import CheckedBlocks

#: Concurrent calls of an endpoint; those that wait in a lane hold neither a thread nor a decoded photo.
API_AT_ONCE = 24

NO_IMAGE = "The request has no picture. Pass one as image."

IMAGE_HELP = "The picture: an upload of this server, or a data URI. Addresses of other servers are refused."


@dataclass(frozen=True)
class Parameter:
    """Parameter of an endpoint.

    Attributes
    ----------
    name : str
    default : str, int, float, bool or None
        The type of the parameter is that of its default; None is an optional number.
    help : str
        One sentence for the description of the tool.
    """

    name: str
    default: str | int | float | bool | None
    help: str

    def component(self) -> gr.Textbox | gr.Checkbox | gr.Number:
        """Return a component with the default as its value."""
        if isinstance(self.default, bool):
            return gr.Checkbox(self.default, label=self.name)
        if isinstance(self.default, str):
            return gr.Textbox(self.default, label=self.name)
        return gr.Number(self.default, label=self.name, precision=0 if isinstance(self.default, int) else None)


@dataclass(frozen=True)
class FileParameter:
    """Parameter of an endpoint whose value is a file or a list of files; `component` creates its input."""

    name: str
    component: Callable[[], Any]
    help: str
    required: bool = True


#: An endpoint's function receives the values of all parameters by name, and the key of the caller for a provider.
Function = Callable[[Mapping[str, Any], "Caller"], Awaitable[Any] | AsyncIterator[Any]]


def no_progress(done: tuple[int, int], desc: str = "") -> None:
    """Ignore the progress of a call."""


@dataclass(frozen=True)
class Caller:
    """The request of a call, which may have API keys of the caller in its headers.

    Attributes
    ----------
    headers : mapping of str to str
    progress : callable ((done, total), desc)
        Reports the progress of a call that streams, which an MCP client receives as notifications.
    """

    headers: Mapping[str, str] = field(repr=False)
    progress: Callable[..., Any] = field(default=no_progress, repr=False)

    def key(self, info: ProviderInfo) -> str | None:
        """Return the caller's own key for a provider; None without one."""
        return self.headers.get(key_header(info).lower()) if info.key_name else None


def key_header(info: ProviderInfo) -> str:
    """Name of the header with the key of a provider: ``X-Fal-Key`` for the variable ``FAL_KEY``."""
    return "X-" + "-".join(part.capitalize() for part in info.key_name.split("_"))


def add(
    app: CheckedBlocks,
    function: Function,
    parameters: Sequence[Parameter | FileParameter],
    outputs: Sequence[Callable[[], Any]],
    *,
    name: str,
    tool: str,
    optional: int = 0,
) -> None:
    """Add an endpoint with hidden components.

    Parameters
    ----------
    app : CheckedBlocks
    function : callable
        Its docstring describes endpoint and result.
    parameters : sequence of Parameter or FileParameter
    outputs : sequence of callable () -> Component
    name : str
        Of the endpoint.
    tool : str
        Of the MCP tool.
    optional : int
        Number of parameters at the end that were added after the first version.
    """
    with gr.Row(visible=False):
        gr.Button().click(
            _positional(function, parameters, tool),
            [parameter.component() for parameter in parameters],
            [output() for output in outputs],
            api_name=name,
            concurrency_limit=API_AT_ONCE,
        )
    app.optional[name] = optional


def _positional(function: Function, parameters: Sequence[Parameter | FileParameter], tool: str) -> Callable[..., Any]:
    """Return `function` with the signature and the docstring from which Gradio makes the schemas of API and MCP."""
    names = [parameter.name for parameter in parameters]

    def split(inputs: tuple[Any, ...], progress: Callable[..., Any]) -> tuple[dict[str, Any], Caller]:
        *values, request = inputs
        return dict(zip(names, values, strict=True)), Caller(dict(request.headers) if request is not None else {}, progress)

    async def call(*inputs: Any) -> Any:
        return await function(*split(inputs, no_progress))  # type: ignore[misc]

    async def stream(*inputs: Any) -> AsyncIterator[Any]:
        *others, progress = inputs
        async for value in function(*split(tuple(others), progress)):  # type: ignore[union-attr]
            yield value

    streams = inspect.isasyncgenfunction(function)
    result: Any = stream if streams else call
    kind, empty = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.empty
    defaults = [
        parameter.default if isinstance(parameter, Parameter) else empty if parameter.required else None
        for parameter in parameters
    ]
    signature = [inspect.Parameter(name, kind, default=default) for name, default in zip(names, defaults, strict=True)] + [
        inspect.Parameter("request", kind, default=None, annotation=gr.Request),
        *([inspect.Parameter("progress", kind, default=gr.Progress(), annotation=gr.Progress)] if streams else []),
    ]
    summary, _, returns = inspect.cleandoc(function.__doc__ or "").partition("\n\nReturns\n-------\n")
    lines = [summary, "", "Args:", *(f"    {parameter.name}: {parameter.help}" for parameter in parameters)]
    result.__signature__ = inspect.Signature(signature)
    result.__annotations__ = {"request": gr.Request} | ({"progress": gr.Progress} if streams else {})
    result.__name__ = result.__qualname__ = tool
    result.__doc__ = "\n".join([*lines, "", "Returns:", f"    {' '.join(returns.split())}"])
    return result


# Parameters of a result, which ``/remove_background`` and ``/batch`` share; they have the names of the command line.


#: Parameters of the first version, in their order.
FIRST = (
    Parameter("provider", "auto", "Id of a provider, see list_providers; auto is the best free one that is ready."),
    Parameter(
        "background",
        "transparent",
        "transparent, a color such as #ff8800, blur, or gradient:#TOP,#BOTTOM[,ANGLE]; "
        "empty for the color that the canvas prescribes.",
    ),
    Parameter("mask_only", False, "Return the mask, white on black, instead of the cutout."),
    Parameter("format", "png", "png, webp, webp-lossy, jpeg or avif."),
)

FINISHING = (
    Parameter(
        "canvas",
        "",
        "WIDTHxHEIGHT in pixels or a preset such as square, amazon or passport, into which the subject is fitted; "
        "empty for the size of the picture.",
    ),
    Parameter("padding", "", "Space around the subject on the canvas, such as 5% or 40px."),
    Parameter("shadow", "", "Drop shadow: soft, or X,Y,BLUR,OPACITY[,COLOR] such as 0,4%,3%,40."),
    Parameter("contact_shadow", "", "Shadow on the ground: soft, or OPACITY[,BLUR[,COLOR]]."),
    Parameter("outline", "", "Line around the subject: WIDTH[,COLOR], such as 8px,#ffffff."),
)

EDGES = (
    Parameter("largest", False, "Keep the largest region of the mask only."),
    Parameter("specks", 0, "Remove regions of fewer pixels than this."),
    Parameter("holes", 0, "Fill holes of fewer pixels than this."),
    Parameter("smooth", 0.0, "Straighten a jagged outline, 0 to 50 pixels."),
    Parameter("shift", 0.0, "Move the edge outward, or inward if negative, -50 to 50 pixels."),
    Parameter("feather", 0.0, "Soften the edge, 0 to 100 pixels."),
    Parameter("invert", False, "Keep the background and remove the subject."),
)

FURTHER: tuple[Parameter | FileParameter, ...] = (
    Parameter("quality", encode.QUALITY, "Quality of the lossy formats, 1 to 100."),
    Parameter("crop", None, "Crop to the subject, with a margin of 0 to 2 times its longer side; by default none."),
    Parameter("scale", "", "Size of the subject on the canvas in percent of the fitted one."),
    Parameter("position", "", "Shift of the subject in percent of the canvas: X,Y."),
    FileParameter(
        "background_picture",
        lambda: photo_input(label="background_picture"),
        "Picture as background, given as the image is, instead of background.",
        required=False,
    ),
    Parameter("background_fit", "", "cover or contain, for a picture as background."),
    Parameter("background_position", "", "Place of a picture as background in percent: X,Y."),
    Parameter(
        "alpha_matting",
        "",
        "closed-form or vitmatte, to compute the edge of a coarse mask from the picture's colors; seconds a megapixel.",
    ),
    Parameter("alpha_matting_foreground_threshold", 240, "Mask level above which a pixel is foreground, 1 to 255."),
    Parameter("alpha_matting_background_threshold", 10, "Mask level below which a pixel is background, 1 to 255."),
    Parameter("alpha_matting_erode_size", 10, "Width of the uncertain band, 1 to 255 pixels at 1024 pixels."),
    Parameter("options", "", 'Options of the provider as a JSON object, such as {"threshold": 0.8}; see list_providers.'),
)


def parse_recipe(values: Mapping[str, Any], settings: Settings) -> Recipe:
    """Return provider, options and rendering of a call.

    Parameters
    ----------
    values : mapping of str to Any
        Values of all parameters of this module; an empty number stands for the default.
    settings : Settings

    Raises
    ------
    OptionError
        If a value is invalid.
    """
    values = {**values, **{p.name: p.default for p in _PARAMETERS if values[p.name] is None}}
    options = parse_options(values["options"])
    provider = find(values["provider"], settings, options)
    finishing = Finishing.parse(
        **{name: values[name] for name in ("canvas", "padding", "scale", "position", "shadow", "contact_shadow", "outline")}
    )
    finishing.check_crop(values["crop"])
    encode.check_quality(values["quality"])
    alpha_matting = _alpha_matting(values)
    check_alpha_matting(alpha_matting, settings)
    return Recipe(
        provider,
        provider.info.parse_options(options),
        encode.format_named(values["format"]),
        _background(values, settings),
        "mask" if values["mask_only"] else "cutout",
        values["crop"],
        values["quality"],
        EdgeSettings(**{name: values[name] for name in asdict(UNCHANGED)}),
        alpha_matting,
        finishing,
    )


def _alpha_matting(values: Mapping[str, Any]) -> AlphaMatting | None:
    method = values["alpha_matting"].strip()
    levels = {name: values[f"alpha_matting_{name}"] for name in ("foreground_threshold", "background_threshold", "erode_size")}
    return AlphaMatting(**levels, method=method) if method else None


def parse_options(text: str) -> dict[str, Any]:
    """Parse the options of a provider, a JSON object; raises OptionError if the text is none."""
    try:
        options = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise OptionError('options is not a JSON object. Write it like {"threshold": 0.8}.')
    return options


def _background(values: Mapping[str, Any], settings: Settings) -> Background:
    color = preset_background(values["canvas"])
    if values["background_picture"] is not None:
        if values["background"] not in ("", "transparent"):
            raise OptionError("Both background and background_picture are given. Use one of them.")
        background = picture(values["background_picture"].path, settings=settings)
    elif not values["background"].strip() and color is not None:
        background = Background("color", (color,))
    else:
        # A path would give callers read access to pictures on the server's disk.
        background = parse_background(values["background"], paths=False)
    return place_picture(background, values["background_fit"], values["background_position"])


_PARAMETERS = [p for p in (*FIRST, *FINISHING, *EDGES, *FURTHER) if isinstance(p, Parameter)]
