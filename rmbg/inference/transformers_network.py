"""Loading of networks that transformers defines, from verified weights; nothing is downloaded."""

from __future__ import annotations

from typing import Any

from rmbg.errors import ModelError
from rmbg.inference import weights
from rmbg.inference.catalog import Model
from rmbg.inference.torch_runner import damaged
from rmbg.inference.weights import WeightsFile
from rmbg.networks.load import NonFiniteError, check_finite


def load_transformers(network: Any, config: Any, model: Model, file: WeightsFile) -> Any:
    """Return a network in float32, for inference.

    Parameters
    ----------
    network : class of transformers.PreTrainedModel
    config : transformers.PretrainedConfig
    model : Model
    file : WeightsFile

    Raises
    ------
    ModelError
        If the weights contain NaN or infinity, or are those of another network.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    tensors = weights.read(file)
    try:
        check_finite(tensors)
        loaded, info = network.from_pretrained(None, config=config, state_dict=tensors, output_loading_info=True)
        mismatches = sorted(info["missing_keys"])
    except NonFiniteError as error:
        raise damaged(model, file, error) from None
    except RuntimeError as error:  # tensors of other shapes
        mismatches = [str(error).splitlines()[0]]
    if mismatches:
        raise ModelError(f"{file.path} does not fit {model.id}. These are the weights of another network: {mismatches[0]}.")
    return loaded.eval().requires_grad_(False)
