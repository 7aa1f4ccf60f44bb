"""Own models as providers: checkpoints and ONNX files of the owner of this machine, with ids such as ``model:NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rmbg.cutout import Cutout
from rmbg.images.photo import Photo
from rmbg.inference import own_models, weights
from rmbg.inference.catalog import Model
from rmbg.providers.base import Execution, RequestContext, Status
from rmbg.providers.local import LocalNetwork, on_device
from rmbg.runtime.messages import Message
from rmbg.runtime.telemetry import Timer
from rmbg.settings import Settings


def opened(source: str, given: Mapping[str, Any], context: RequestContext) -> OwnModel:
    """Return the provider of a model by its file, folder or repository; raises as ``own_models.measure``."""
    provider = OwnModel(own_models.locate(source), given)
    provider.measure(context)
    return provider


def in_folder(folder: Path) -> list[OwnModel]:
    """Return the providers of the models in a folder, which are not read yet; raises as ``own_models.in_folder``."""
    return [OwnModel(model, {}) for model in own_models.in_folder(folder)]


class OwnModel(LocalNetwork):
    """Own model, whose architecture and settings are determined when it is first used.

    Parameters
    ----------
    model : Model
        From ``own_models.locate`` or ``own_models.in_folder``.
    given : mapping of str to value
        Settings of the model, see ``own_models.OPTIONS``.
    """

    def __init__(self, model: Model, given: Mapping[str, Any]) -> None:
        super().__init__(model)
        self._own, self._given = model, given
        if model.path is not None:
            self.info = replace(self.info, pixels="The photo stays on this machine.")
        self.info = replace(self.info, input_size="")  # not known yet

    def measure(self, context: RequestContext) -> None:
        """Determine the model and its score; raises as ``own_models.measure``."""
        found = own_models.measure(self._own, self._given, context.settings, context.progress, context.check)
        self.model = found.model
        self.info = replace(self.info, model=str(found), input_size=found.model.input_size)

    def status(self, settings: Settings) -> Status:
        if self.model.path is not None and weights.present(self.model, settings) is None:
            return Status("unavailable", Message("its file is missing"))
        return super().status(settings)

    def executions(self, settings: Settings) -> tuple[Execution, ...]:
        revision = "".join(self.checksums({}, settings))
        return tuple(replace(execution, revision=revision) for execution in super().executions(settings))

    def checksums(self, options: Mapping[str, Any], settings: Settings) -> tuple[str, ...]:
        present = weights.present(self._own, settings) is not None
        return (own_models.checksum(self._own, self._given, settings),) if present else ()

    def warm_up(self, context: RequestContext) -> None:
        self.measure(context)
        super().warm_up(context)

    def cut(self, photo: Photo, options: Mapping[str, Any], context: RequestContext) -> Cutout:
        with on_device(context, Timer()):
            self.measure(context)
        return super().cut(photo, options, context)
