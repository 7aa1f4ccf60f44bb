"""Configuration of the page with less work for the browser.

For each status of an event, Gradio's page searches its tree of components once for every component that has ever been an output
of an event, whether its progress is shown or not. It also compares each component with each event when it is opened.
"""

from __future__ import annotations

from abc import ABCMeta
from collections import defaultdict
from typing import Any

import gradio as gr
from gradio.block_function import BlockFunction
from gradio.component_meta import ComponentMeta
from gradio.data_classes import BlocksConfigDict
from gradio.queueing import ProcessTime

from rmbg.ui.languages import DEFAULT, LANGUAGE, localized, preferred, speaking, texts_script

#: Class of the rows with the components of an endpoint of the API, which the page does not need.
ENDPOINT = "endpoint"


def report_hidden_progress_to(component: Any, app: gr.Blocks) -> None:
    """Make `component` the only one that receives the status of events whose progress is hidden.

    Events of ``gr.render`` are left as they are: without a status, their containers are not hidden while they are empty.
    """
    for event in app.fns.values():
        if event.show_progress == "hidden" and event.show_progress_on is None and event.renderable is None:
            event.show_progress_on = [component]


def without_endpoints(config: BlocksConfigDict) -> None:
    """Remove the components of the API's endpoints from the pages in a configuration; its list of all components is unchanged.

    The description of the API, which the page shows as well, is made from that list.
    """
    rows = {part["id"] for part in config["components"] if ENDPOINT in (part["props"].get("elem_classes") or ())}
    pages: dict[str, Any] = dict(config["page"])
    for page in pages.values():
        removed: set[int] = set()
        for row in page["layout"].get("children", []):
            if row["id"] in rows:
                removed |= _ids(row)
        page["layout"]["children"] = [row for row in page["layout"].get("children", []) if row["id"] not in removed]
        page["components"] = [number for number in page["components"] if number not in removed]


def _ids(layout: Any) -> set[int]:
    return {layout["id"]}.union(*(_ids(child) for child in layout.get("children", [])))


# ``gr.Blocks`` whose page and events are in the language of the request.


class LocalizedBlocks(gr.Blocks):
    """``gr.Blocks`` that is built within `rmbg.ui.languages.marked` and serves its configuration in each language.

    The API is described in English.
    """

    @property
    def config(self) -> BlocksConfigDict:
        """Configuration of the page in the language of the request; computed once for each language."""
        language = LANGUAGE.get()
        found = self._localized.get(language)
        if found is None:
            found = localized(self._config)
            found["head"] = texts_script() + (found["head"] or "")
            self._localized[language] = found
        return found

    @config.setter
    def config(self, value: BlocksConfigDict) -> None:
        without_endpoints(value)
        self._config = value
        self._localized: dict[str, Any] = {}

    async def process_api(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Process an event in the language of its request."""
        request = kwargs.get("request")
        LANGUAGE.set(DEFAULT if request is None else preferred(request.headers.get("accept-language", "")))
        return await super().process_api(*args, **kwargs)

    def get_api_info(self, *args: Any, **kwargs: Any) -> Any:
        """Return the description of the API, which Gradio keeps for all visitors."""
        with speaking(DEFAULT):
            return super().get_api_info(*args, **kwargs)


# Run times of Gradio's queue, without the estimates that it derives from them.


class NoEstimates(defaultdict[BlockFunction, ProcessTime]):
    """Mapping that contains no function, so that the page shows elapsed seconds without an expected total.

    Gradio's estimate is the mean of all earlier runs, of small and large photos and of all providers of a kind, so every other
    run exceeds it.
    """

    def __contains__(self, function: object) -> bool:
        return False


# Metaclass for Gradio components that are defined in an app.


class AppComponentMeta(ComponentMeta):
    """``ComponentMeta`` that writes no ``.pyi`` file next to the defining module, whose folder may be read-only.

    For subclasses that define neither ``__init__`` nor events: those of the base class remain in effect.
    """

    def __new__(cls, name: str, bases: tuple[type, ...], attributes: dict[str, Any]) -> AppComponentMeta:
        return ABCMeta.__new__(cls, name, bases, attributes)
