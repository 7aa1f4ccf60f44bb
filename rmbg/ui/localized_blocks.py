"""``gr.Blocks`` whose page and events are in the language of the request."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.data_classes import BlocksConfigDict

from rmbg.ui.languages import DEFAULT, LANGUAGE, localized, preferred, speaking, texts_script
from rmbg.ui.page_config import without_endpoints


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
