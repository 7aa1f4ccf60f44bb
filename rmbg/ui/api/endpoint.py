"""Endpoints of the Gradio API, which are also tools of its MCP server, from tables of their parameters."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import gradio as gr

from rmbg.providers.base import ProviderInfo
from rmbg.ui.page_config import ENDPOINT
from rmbg.ui.payload import CheckedBlocks

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
    with gr.Row(visible=False, elem_classes=ENDPOINT):
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
