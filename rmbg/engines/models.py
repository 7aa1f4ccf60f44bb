"""The published networks, as data: what belongs to a set of weights stands beside its name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Model:
    """One checkpoint and what it needs.

    Attributes
    ----------
    id : str
        The provider's id, and the stem of the file's name in ``RMBG_WEIGHTS``.
    hub, file : str
        Repository and file on the Hugging Face hub.
    revision : str
        What to download the first time; after that the exact commit is remembered beside the weights' checksum.
    megabytes : int
        Size of the download.
    gated : bool
        Whether the hub asks for the licence to be accepted first.
    licence, licence_url : str
    architecture : {"isnet", "birefnet", "sam2"}
    backbone : {"swin_l", "swin_t"} or None
        Of a BiRefNet.
    patch_order : {"columns", "colours"} or None
        Of a BiRefNet: which order of image patches it was trained with. RMBG-2.0 was released with the older one; with the
        wrong one a checkpoint loads without a word and its mattes are worse.
    size : int
        Height and width of the network's input; the photo is stretched to it, as in training.
    mean, std : (red, green, blue)
        Subtracted from, and divided by, after scaling to [0, 1].
    resampling : {"plain", "antialiased"}
        How the photo is brought to that size, see ``rmbg.engines.pictures``.
    levelled : bool
        Whether the mask's smallest value becomes 0 and its largest 1.
    """

    id: str
    hub: str
    megabytes: int
    licence: str
    licence_url: str
    architecture: Literal["isnet", "birefnet", "sam2"]
    backbone: Literal["swin_l", "swin_t"] | None = None
    patch_order: Literal["columns", "colours"] | None = None
    gated: bool = False
    revision: str = "main"
    file: str = "model.safetensors"
    size: int = 1024
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    resampling: Literal["plain", "antialiased"] = "antialiased"
    levelled: bool = False

    @property
    def engines(self) -> tuple[str, ...]:
        """What can run it; SAM 2 is transformers' own, for which there is no graph here."""
        return ("torch",) if self.architecture == "sam2" else ("openvino", "torch")

    @property
    def page(self) -> str:
        """Where the model is described and its licence accepted."""
        return f"https://huggingface.co/{self.hub}"


MODELS = {
    "rmbg-1.4": Model(
        id="rmbg-1.4",
        hub="briaai/RMBG-1.4",
        megabytes=176,
        licence="Non-commercial use only, unless you have an agreement with BRIA.",
        licence_url="https://bria.ai/bria-huggingface-model-license-agreement/",
        architecture="isnet",
        mean=(0.5, 0.5, 0.5),
        std=(1.0, 1.0, 1.0),
        resampling="plain",
        levelled=True,
    ),
    "rmbg-2.0": Model(
        id="rmbg-2.0",
        hub="briaai/RMBG-2.0",
        megabytes=885,
        licence="CC BY-NC 4.0: non-commercial use only, unless you have an agreement with BRIA.",
        licence_url="https://creativecommons.org/licenses/by-nc/4.0/",
        architecture="birefnet",
        backbone="swin_l",
        patch_order="columns",
        gated=True,
    ),
    "birefnet": Model(
        id="birefnet",
        hub="ZhengPeng7/BiRefNet",
        megabytes=444,
        licence="MIT; use the results as you like.",
        licence_url="https://github.com/ZhengPeng7/BiRefNet/blob/main/LICENSE",
        architecture="birefnet",
        backbone="swin_l",
        patch_order="colours",
    ),
    "birefnet-lite": Model(
        id="birefnet-lite",
        hub="ZhengPeng7/BiRefNet_lite",
        megabytes=178,
        licence="MIT; use the results as you like.",
        licence_url="https://github.com/ZhengPeng7/BiRefNet/blob/main/LICENSE",
        architecture="birefnet",
        backbone="swin_t",
        patch_order="colours",
    ),
    "sam2": Model(
        id="sam2",
        hub="facebook/sam2.1-hiera-small",
        megabytes=184,
        licence="Apache 2.0; use the results as you like.",
        licence_url="https://www.apache.org/licenses/LICENSE-2.0",
        architecture="sam2",
    ),
}


def build(model: Model) -> tuple[nn.Module, tuple[str, ...]]:
    """An IS-Net or BiRefNet without memory or weights of its own, and parts of the names of tensors that it ignores."""
    import torch  # seconds to import, and the table above is needed without it

    from rmbg.networks import birefnet, isnet

    with torch.device("meta"):
        if model.architecture == "isnet":
            return isnet.ISNet().eval(), isnet.UNUSED
        assert model.patch_order is not None
        backbone = birefnet.SWIN_T if model.backbone == "swin_t" else birefnet.SWIN_L
        return birefnet.BiRefNet(backbone, model.patch_order).eval(), birefnet.UNUSED
