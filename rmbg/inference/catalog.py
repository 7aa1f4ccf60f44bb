"""Published networks as data: hub repository, license, input size, normalization, architecture."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Model:
    """A checkpoint and the parameters that belong to it.

    Attributes
    ----------
    id : str
        Id of the provider, and stem of the file name in ``RMBG_WEIGHTS``.
    title, network : str
        Display name, and architecture and size of the network.
    best_for : str
        Recommended use in three words.
    megabytes : int
        Size of the download.
    license, license_url : str
    architecture : {"isnet", "u2net", "u2netp", "u2net-cloth", "inspyrenet", "mvanet", "ben2", "birefnet", "sam2", "vitmatte"}
    backbone : {"swin_l", "swin_t"} or None
        Of a BiRefNet.
    patch_order : {"columns", "colors"} or None
        Of a BiRefNet: the order of image patches that it was trained with; "columns" is the older one, which RMBG-2.0 has.
        A checkpoint loads with the wrong order without an error, but its mattes are worse.
    hub, file : str
        Repository and file on the Hugging Face hub; `hub` is empty if the file is at `url`.
    revision : str
        Branch, tag or commit of the first download. Its commit is recorded and used by later downloads.
    gated : bool
        True if the license must be accepted on the hub before the download.
    url : str
        Address of a file that is not on the hub.
    checksum : str
        Checksum of the file at `url`: ``md5:`` or ``sha256:`` and the digits.
    size : int
        Height and width of the network's input; the photo is stretched to it, as in training.
    mean, std : (red, green, blue)
        Normalization after scaling to [0, 1].
    resampling : {"plain", "antialiased"}
        Resizing of the photo to the input, see ``rmbg.inference.preprocess``.
    minmax_normalize : bool
        True if the mask is stretched so that its minimum becomes 0 and its maximum 1.
    seconds : float or None
        Typical run time for one photo on two CPU cores.
    """

    id: str
    title: str
    network: str
    best_for: str
    megabytes: int
    license: str
    license_url: str
    architecture: Literal[
        "isnet", "u2net", "u2netp", "u2net-cloth", "inspyrenet", "mvanet", "ben2", "birefnet", "sam2", "vitmatte"
    ]
    backbone: Literal["swin_l", "swin_t"] | None = None
    patch_order: Literal["columns", "colors"] | None = None
    hub: str = ""
    file: str = "model.safetensors"
    revision: str = "main"
    gated: bool = False
    url: str = ""
    checksum: str = ""
    size: int = 1024
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    resampling: Literal["plain", "antialiased"] = "antialiased"
    minmax_normalize: bool = False
    seconds: float | None = None

    @property
    def engines(self) -> tuple[str, ...]:
        """Supported engines; there are no OpenVINO graphs of SAM 2 and ViTMatte."""
        return ("torch",) if self.architecture in ("sam2", "vitmatte") else ("openvino", "torch")

    @property
    def input_size(self) -> str:
        """Size of the network's input as text."""
        return f"{self.size} x {self.size}"

    @property
    def page(self) -> str:
        """URL of the model card, where the license is accepted, or of the file."""
        return self.url or f"https://huggingface.co/{self.hub}"

    @property
    def source(self) -> str:
        """Repository of the file: on the hub, or host and first two folders of `url`, as in ``github.com/owner/name``."""
        return self.hub or "/".join(self.url.split("/")[2:5])

    @property
    def file_name(self) -> str:
        """Name of the file in ``RMBG_WEIGHTS``, and of a download from `url` in the data folder."""
        return self.id + PurePosixPath(self.url or self.file).suffix


_BIREFNET = Model(
    id="birefnet",
    title="BiRefNet",
    network="BiRefNet, 220 million parameters",
    best_for="fine general edges",
    hub="ZhengPeng7/BiRefNet",
    megabytes=444,
    license="MIT; free for any use, including commercial use.",
    license_url="https://github.com/ZhengPeng7/BiRefNet/blob/main/LICENSE",
    architecture="birefnet",
    backbone="swin_l",
    patch_order="colors",
    seconds=9.0,
)

#: Alpha matting of the band of a trimap. The photo is not stretched: `size` is the side of a tile of a large photo.
VITMATTE = Model(
    id="vitmatte",
    title="ViTMatte",
    network="ViTMatte, 26 million parameters",
    best_for="hair and fur",
    hub="hustvl/vitmatte-small-composition-1k",
    revision="53222614392e8bd24ed804fbd2f9a43c46ac3850",
    megabytes=103,
    license="Apache 2.0; trained on Composition-1k, a research data set whose terms may limit commercial use.",
    license_url="https://www.apache.org/licenses/LICENSE-2.0",
    architecture="vitmatte",
    size=768,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)

#: Models of providers by id.
MODELS = {
    model.id: model
    for model in (
        Model(
            id="rmbg-1.4",
            title="RMBG-1.4",
            network="IS-Net, 44 million parameters",
            best_for="fast general use",
            hub="briaai/RMBG-1.4",
            megabytes=176,
            license="Non-commercial use only, unless you have an agreement with BRIA.",
            license_url="https://bria.ai/bria-huggingface-model-license-agreement/",
            architecture="isnet",
            mean=(0.5, 0.5, 0.5),
            std=(1.0, 1.0, 1.0),
            resampling="plain",
            minmax_normalize=True,
            seconds=1.2,
        ),
        Model(
            id="rmbg-2.0",
            title="RMBG-2.0",
            network="BiRefNet, 220 million parameters",
            best_for="the finest edges",
            hub="briaai/RMBG-2.0",
            megabytes=885,
            license="CC BY-NC 4.0: non-commercial use only, unless you have an agreement with BRIA.",
            license_url="https://creativecommons.org/licenses/by-nc/4.0/",
            architecture="birefnet",
            backbone="swin_l",
            patch_order="columns",
            gated=True,
            seconds=9.0,
        ),
        _BIREFNET,
        replace(
            _BIREFNET,
            id="birefnet-lite",
            title="BiRefNet lite",
            network="BiRefNet with a small backbone, 44 million parameters",
            best_for="fast fine edges",
            hub="ZhengPeng7/BiRefNet_lite",
            megabytes=178,
            backbone="swin_t",
            seconds=3.0,
        ),
        Model(
            id="sam2",
            title="SAM 2",
            network="SAM 2.1, 46 million parameters",
            best_for="one chosen object",
            hub="facebook/sam2.1-hiera-small",
            megabytes=184,
            license="Apache 2.0; free for any use, including commercial use.",
            license_url="https://www.apache.org/licenses/LICENSE-2.0",
            architecture="sam2",
            seconds=12.0,
        ),
    )
}


#: All networks with downloaded weights, by id.
DOWNLOADS = {**MODELS, VITMATTE.id: VITMATTE}


def build(model: Model) -> tuple[nn.Module, tuple[str, ...]]:
    """Build a network of `rmbg.networks` on the "meta" device.

    Returns
    -------
    network : nn.Module
        In eval mode, without memory for its weights.
    unused : tuple of str
        Parts of the names of tensors in the checkpoint that the network does not use.
    """
    import torch  # deferred: takes seconds, and the table above does not need it

    from rmbg.networks import birefnet, inspyrenet, isnet, mvanet, u2net

    with torch.device("meta"):
        match model.architecture:
            case "isnet":
                return isnet.ISNet().eval(), isnet.UNUSED
            case "u2net":
                return u2net.U2Net(u2net.FULL).eval(), ()
            case "u2netp":
                return u2net.U2Net(u2net.SMALL).eval(), ()
            case "u2net-cloth":
                return u2net.U2Net(u2net.FULL, classes=4).eval(), ()
            case "inspyrenet":
                return inspyrenet.InSPyReNet(model.size).eval(), inspyrenet.UNUSED
            case "mvanet":
                return mvanet.MVANet(mvanet.MVANET).eval(), mvanet.UNUSED
            case "ben2":
                return mvanet.MVANet(mvanet.BEN2).eval(), mvanet.UNUSED
        assert model.patch_order is not None
        backbone = birefnet.SWIN_T if model.backbone == "swin_t" else birefnet.SWIN_L
        return birefnet.BiRefNet(backbone, model.patch_order).eval(), birefnet.UNUSED
