"""Published networks as data: hub repository, license, input size, normalization, architecture."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")

#: Start of the ids of models that are not in the catalog.
OWN = "model:"

#: Architectures that are prompted by points or a box after the photo.
SEGMENT_ANYTHING = ("sam", "sam2")

#: Architectures that run in fp32 by default: in bf16 their masks differ by up to 0.33 and 0.19, see benchmarks/README.md.
FULL_PRECISION = ("inspyrenet", "mvanet")

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

#: The sides of a BiRefNet's input are multiples of this.
STRIDE = 32

#: Heights and widths of a dynamic input on OpenVINO, whose graphs have static shapes. Each is compiled on first use.
GRAPH_SHAPES = ((512, 512), (1024, 1024), (1024, 1536), (1536, 1024), (2048, 2048), (1536, 2304), (2304, 1536))


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
    architecture : str
        Definition in ``rmbg.networks`` or transformers, or "onnx" for what is defined in the file.
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
        Height of the network's input; the photo is stretched to it, as in training.
    width : int or None
        Width of the network's input; None if it is `size` as well.
    dynamic : (smallest, largest) or None
        Range of the sides of the input if they are those of the photo, see `input_shape`. `size` has no effect then.
    mean, std : (red, green, blue)
        Normalization after scaling to [0, 1].
    relative : bool
        True if the scaling is by the largest value in the photo, as in the training of U2-Net, instead of 255.
    resampling : {"plain", "antialiased", "lanczos"}
        Resizing of the photo to the input, see ``rmbg.inference.preprocess``.
    classes : int
        Channels of the output of an ONNX file. If there are several, the first is the background, and the mask is the rest.
    letterbox : {"center", "corner"} or None
        Place of the photo in the input if it is not stretched to it: the middle, or the top left corner. The rest is zero.
    minmax_normalize : bool
        True if the mask is stretched so that its minimum becomes 0 and its maximum 1.
    seconds : float or None
        Typical run time for one photo on two CPU cores; that of a BiRefNet is in proportion to the pixels of its input.
    path : Path or None
        File on this machine, of a model that is not in the catalog.
    """

    id: str
    title: str
    network: str
    best_for: str
    megabytes: int
    license: str
    license_url: str
    architecture: Literal[
        "isnet", "u2net", "u2netp", "u2net-cloth", "inspyrenet", "mvanet", "ben2", "birefnet", "sam", "sam2", "vitmatte", "onnx"
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
    width: int | None = None
    dynamic: tuple[int, int] | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    relative: bool = False
    resampling: Literal["plain", "antialiased", "lanczos"] = "antialiased"
    classes: int = 1
    letterbox: Literal["center", "corner"] | None = None
    minmax_normalize: bool = False
    seconds: float | None = None
    path: Path | None = None

    @property
    def engines(self) -> tuple[str, ...]:
        """Supported engines; there are no OpenVINO graphs of Segment Anything and ViTMatte."""
        if self.architecture == "onnx":
            return ("openvino", "onnxruntime") if self.classes == 1 else ("openvino",)
        return ("torch",) if self.architecture in (*SEGMENT_ANYTHING, "vitmatte") else ("openvino", "torch")

    @property
    def own(self) -> bool:
        """True for a model that is not in the catalog."""
        return self.id.startswith(OWN)

    @property
    def network_only(self) -> Model:
        """The model without its description and preprocessing, which the loaded network does not depend on."""
        described: dict[str, Any] = dict.fromkeys(("title", "network", "best_for", "license", "license_url"), "")
        prepared: dict[str, Any] = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD, "resampling": "antialiased"}
        return replace(self, **described, **prepared, relative=False, letterbox=None, minmax_normalize=False, seconds=None)

    @property
    def input_size(self) -> str:
        """Width and height of the network's input as text."""
        if self.dynamic is not None:
            return " to ".join(f"{side} x {side}" for side in self.dynamic)
        return f"{self.width or self.size} x {self.size}"

    def input_shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the network's input for a photo.

        The sides of a dynamic input are those of the photo, rounded down to multiples of 32 as in the demo of the authors
        (https://huggingface.co/spaces/ZhengPeng7/BiRefNet_demo). A larger photo than those of training is scaled first.
        """
        if self.dynamic is None:
            return self.size, self.width or self.size
        smallest, largest = self.dynamic
        longest = max(height, width, largest)
        rows, columns = (max(smallest, side * largest // longest // STRIDE * STRIDE) for side in (height, width))
        return rows, columns

    def static(self, height: int, width: int) -> Model:
        """The model with the shape of `GRAPH_SHAPES` whose sides are the nearest in ratio to those of a photo's input."""
        if self.dynamic is None:
            return self
        wanted = self.input_shape(height, width)

        def distance(shape: tuple[int, int]) -> float:
            return sum(abs(math.log(side / other)) for side, other in zip(shape, wanted, strict=True))

        rows, columns = min(GRAPH_SHAPES, key=distance)
        return replace(self, dynamic=None, size=rows, width=columns)

    @property
    def short_license(self) -> str:
        """Name of the license, or the first words of its terms."""
        return re.split("[;:,]", self.license)[0].rstrip(".")

    @property
    def page(self) -> str:
        """URL of the model card, where the license is accepted, or of the file."""
        return self.url or f"https://huggingface.co/{self.hub}"

    @property
    def source(self) -> str:
        """Repository of the file: on the hub, or host and first two folders of `url`, as in ``github.com/owner/name``.

        Of a file on this machine, its name.
        """
        if self.path is not None:
            return self.path.name
        return self.hub or "/".join(self.url.split("/")[2:5])

    @property
    def file_name(self) -> str:
        """Name of the file in ``RMBG_WEIGHTS``, and of a download from `url` in the data folder."""
        return self.id + PurePosixPath(self.url or self.file).suffix


# The patch order of a BiRefNet is that of the code of its authors when it was trained, which changed on 2024-11-05
# (github.com/ZhengPeng7/BiRefNet, commit 5198d3f). The code beside the weights on the hub does not tell the order: it was
# replaced on 2025-02-02, and the older weights were kept (BiRefNet_lite-2K, commit 94260e2). Each entry has the date from which
# its weights are known.

_BIREFNET = Model(
    id="birefnet",  # 2024-07-28, commit 2ccc960 of the code
    title="BiRefNet",
    network="BiRefNet, 220 million parameters",
    best_for="fine general edges",
    hub="ZhengPeng7/BiRefNet",
    megabytes=444,
    license="MIT; free for any use, including commercial use.",
    license_url="https://github.com/ZhengPeng7/BiRefNet/blob/main/LICENSE",
    architecture="birefnet",
    backbone="swin_l",
    patch_order="columns",
    seconds=9.0,
)
_BIREFNET_LITE = replace(
    _BIREFNET,
    id="birefnet-lite",  # 2024-08-02, commit 1931af0 of the code
    title="BiRefNet lite",
    network="BiRefNet with a small backbone, 44 million parameters",
    best_for="fast fine edges",
    hub="ZhengPeng7/BiRefNet_lite",
    megabytes=178,
    backbone="swin_t",
    seconds=3.0,
)

#: Further weights from before the change.
_BIREFNETS_OF_2024 = (
    replace(
        _BIREFNET,
        id="birefnet-matting",  # 2024-10-06, commit cd93244 on the hub
        title="BiRefNet matting",
        best_for="hair and transparency",
        hub="ZhengPeng7/BiRefNet-matting",
        megabytes=885,
    ),
    replace(
        _BIREFNET,
        id="birefnet-portrait",  # 2024-07-30, commit 150904a of the code; replaced before the end of October
        title="BiRefNet portrait",
        best_for="people and portraits",
        hub="ZhengPeng7/BiRefNet-portrait",
        megabytes=885,
    ),
    replace(
        _BIREFNET,
        id="birefnet-legacy",  # 2024-05-13, commit 63fb713 on the hub
        title="BiRefNet legacy",
        best_for="reproducing earlier results",
        hub="ZhengPeng7/BiRefNet-legacy",
        megabytes=885,
    ),
    replace(
        _BIREFNET_LITE,
        id="birefnet-lite-2k",  # 2024-09-24, commit 3007575 on the hub
        title="BiRefNet lite 2K",
        best_for="large landscape photos",
        hub="ZhengPeng7/BiRefNet_lite-2K",
        size=1440,
        width=2560,
        seconds=10.5,
    ),
    replace(
        _BIREFNET,
        id="birefnet-dis",  # 2024-08-01, commit 8584085 on the hub
        title="BiRefNet DIS5K",
        best_for="thin intricate structures",
        hub="ZhengPeng7/BiRefNet-DIS5K",
        megabytes=885,
    ),
    replace(
        _BIREFNET,
        id="birefnet-hrsod",  # 2024-08-01, commit 9c64804 on the hub
        title="BiRefNet HRSOD",
        best_for="one salient object",
        hub="ZhengPeng7/BiRefNet-HRSOD",
        megabytes=885,
    ),
    replace(
        _BIREFNET,
        id="birefnet-cod",  # 2024-08, before the commit of 2024-08-24 that corrects its config.json
        title="BiRefNet COD",
        best_for="camouflaged hidden objects",
        hub="ZhengPeng7/BiRefNet-COD",
        megabytes=885,
    ),
    replace(
        _BIREFNET,
        id="birefnet-massive",  # 2024-09-05 at the latest: named in github.com/lldacing/ComfyUI_BiRefNet_ll, commit 82162f8
        title="BiRefNet massive",
        best_for="intricate everyday objects",
        hub="ZhengPeng7/BiRefNet-DIS5K-TR_TEs",
        megabytes=885,
    ),
)

#: Weights from after the change, of the authors and of others who trained with their code.
_BIREFNETS_SINCE_2025 = (
    replace(
        _BIREFNET,
        id="birefnet-hr",  # 2025-02-01, README of the code
        title="BiRefNet HR",
        best_for="large detailed photos",
        patch_order="colors",
        hub="ZhengPeng7/BiRefNet_HR",
        size=2048,
        seconds=36.0,
    ),
    replace(
        _BIREFNET,
        id="birefnet-hr-matting",  # 2025-02-12, README of the code
        title="BiRefNet HR matting",
        best_for="large soft edges",
        patch_order="colors",
        hub="ZhengPeng7/BiRefNet_HR-matting",
        size=2048,
        seconds=36.0,
    ),
    replace(
        _BIREFNET,
        id="birefnet-dynamic",  # 2025-03-31, README of the code
        title="BiRefNet dynamic",
        best_for="panoramas without distortion",
        patch_order="colors",
        hub="ZhengPeng7/BiRefNet_dynamic",
        dynamic=(256, 2304),
        seconds=30.0,
    ),
    replace(
        _BIREFNET,
        id="birefnet-dynamic-matting",  # 2025, after birefnet-dynamic
        title="BiRefNet dynamic matting",
        best_for="undistorted soft edges",
        patch_order="colors",
        hub="ZhengPeng7/BiRefNet_dynamic-matting",
        dynamic=(256, 2304),
        seconds=30.0,
    ),
    replace(
        _BIREFNET,
        id="birefnet-512",  # 2025-02 at the earliest: its model card compares it with birefnet-hr
        title="BiRefNet 512",
        best_for="small photos, quickly",
        patch_order="colors",
        hub="ZhengPeng7/BiRefNet_512x512",
        size=512,
        seconds=2.3,
    ),
    replace(
        _BIREFNET_LITE,
        id="birefnet-lite-matting",  # 2025-02-24 at the earliest: not in the list of that day (BiRefNet_lite-2K, handler.py)
        title="BiRefNet lite matting",
        best_for="fast soft edges",
        patch_order="colors",
        hub="ZhengPeng7/BiRefNet_lite-matting",
        megabytes=89,
    ),
    replace(
        _BIREFNET,
        id="toonout",  # github.com/MatteoKartoon/BiRefNet, 2025-09: birefnet/models/birefnet.py
        title="ToonOut",
        network="BiRefNet trained on anime, 220 million parameters",
        best_for="anime and cartoons",
        patch_order="colors",
        # joelseytre/toonout has a pickle only; this is its conversion to safetensors.
        hub="1038lab/BiRefNet",
        file="BiRefNet_toonout.safetensors",
        megabytes=885,
        license_url="https://github.com/MatteoKartoon/BiRefNet/blob/main/LICENSE",
    ),
    replace(
        _BIREFNET,
        id="lucida",  # 2026-07, trained from birefnet-hr with its code: github.com/egeorcun/lucida, scripts/fold_norm_comfy.py
        title="Lucida",
        network="BiRefNet HR trained on design and glass, 220 million parameters",
        best_for="glass, text, logos",
        patch_order="colors",
        hub="egeorcun/lucida",
        megabytes=885,
        license_url="https://huggingface.co/egeorcun/lucida",
    ),
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

_RMBG_1_4 = Model(
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
)

#: IS-Net and U2-Net. Their authors publish them as pickles only, which are programs; all but the anime network are taken from
#: the files of rembg, https://github.com/danielgatis/rembg/tree/main/rembg/sessions, which has the checksums as well.
_REMBG = "https://github.com/danielgatis/rembg/releases/download/v0.0.0/"
_APACHE = "Apache 2.0; free for any use, including commercial use."
_U2NET = Model(
    id="u2net",
    title="U2-Net",
    network="U2-Net, 44 million parameters",
    best_for="reproducing earlier results",
    url=f"{_REMBG}u2net.onnx",
    checksum="md5:60024c5c889badc19c04ad937298a77b",
    megabytes=176,
    license=_APACHE,
    license_url="https://github.com/xuebinqin/U-2-Net/blob/master/LICENSE",
    architecture="onnx",
    size=320,
    relative=True,
    resampling="lanczos",
    minmax_normalize=True,
)
_U2NET_CLOTH = replace(
    _U2NET,
    id="u2net-cloth-seg",
    title="U2-Net cloth",
    best_for="clothes without wearer",
    url=f"{_REMBG}u2net_cloth_seg.onnx",
    checksum="md5:2434d1f3cb744e0e49386c906e5a08bb",
    license="MIT; free for any use, including commercial use.",
    license_url="https://github.com/levindabhi/cloth-segmentation/blob/main/LICENSE",
    size=768,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    relative=False,
    minmax_normalize=False,
    classes=4,
)
_U2NETS = (
    _U2NET,
    replace(
        _U2NET,
        id="u2netp",
        title="U2-Net small",
        network="U2-Net, 1.1 million parameters",
        best_for="smallest download",
        url=f"{_REMBG}u2netp.onnx",
        checksum="md5:8e83ca70e441ab06c318d82300c84806",
        megabytes=5,
    ),
    replace(
        _U2NET,
        id="u2net-human-seg",
        title="U2-Net human",
        best_for="people, quickly",
        url=f"{_REMBG}u2net_human_seg.onnx",
        checksum="md5:c09ddc2e0104f800e3e1bb4652583d1f",
    ),
    _U2NET_CLOTH,
    replace(
        _U2NET,
        id="silueta",
        title="Silueta",
        network="U2-Net, reduced to a quarter",
        best_for="small download",
        url=f"{_REMBG}silueta.onnx",
        checksum="md5:55e59e0d8062d2f5d013f4725ee84782",
        megabytes=44,
    ),
)
_ISNETS = (
    replace(
        _RMBG_1_4,
        id="isnet-general-use",
        title="IS-Net general",
        best_for="free general use",
        hub="",
        url=f"{_REMBG}isnet-general-use.onnx",
        checksum="md5:fc16ebd8b0c10d971d3513d564d01e29",
        megabytes=179,
        license=_APACHE,
        license_url="https://github.com/xuebinqin/DIS/blob/main/LICENSE.md",
        architecture="onnx",
        seconds=None,
    ),
    replace(
        _RMBG_1_4,
        id="isnet-anime",
        title="IS-Net anime",
        network="IS-Net trained on anime, 44 million parameters",
        best_for="anime, quickly",
        hub="skytnt/anime-seg",
        megabytes=204,
        license=_APACHE,
        license_url="https://github.com/SkyTNT/anime-segmentation/blob/main/LICENSE",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        letterbox="center",
        minmax_normalize=False,
        seconds=None,
    ),
)

#: Networks with several views of the photo. The inputs are those of the published pipelines.
_BEN2 = Model(
    id="ben2",
    title="BEN2",
    network="BEN2, 94 million parameters",
    best_for="fine hair",
    hub="PramaLLC/BEN2",
    megabytes=381,
    license="MIT; free for any use, including commercial use.",
    license_url="https://github.com/PramaLLC/BEN2/blob/main/LICENSE",
    architecture="ben2",
    resampling="lanczos",
    minmax_normalize=True,
)
_BOX_SEGMENTER = Model(
    id="finegrain-box",
    title="Finegrain box segmenter",
    network="MVANet, 94 million parameters",
    best_for="objects in boxes",
    hub="finegrain/finegrain-box-segmenter",
    revision="v0.1",
    megabytes=381,
    license="MIT; free for any use, including commercial use.",
    license_url="https://huggingface.co/finegrain/finegrain-box-segmenter",
    architecture="mvanet",
)

_SAM2 = Model(
    id="sam2",
    title="SAM 2",
    network="SAM 2.1, 46 million parameters",
    best_for="one chosen object",
    hub="facebook/sam2.1-hiera-small",
    megabytes=184,
    license=_APACHE,
    license_url="https://www.apache.org/licenses/LICENSE-2.0",
    architecture="sam2",
    seconds=12.0,
)
_SAM = replace(
    _SAM2,
    id="sam",
    title="SAM",
    network="SAM ViT-B, 94 million parameters",
    hub="facebook/sam-vit-base",
    megabytes=375,
    architecture="sam",
    letterbox="corner",
    seconds=None,
)

#: Networks whose weights are published as pickles only. Conversions of them are own models, see `rmbg.inference.own_models`.
CONVERTED = (
    *(replace(_U2NET, architecture=architecture) for architecture in ("u2net", "u2netp")),
    replace(_U2NET_CLOTH, architecture="u2net-cloth", classes=1),
    replace(
        _BEN2, id="inspyrenet", network="InSPyReNet, 91 million parameters", architecture="inspyrenet", resampling="antialiased"
    ),
)

#: Models of providers by id.
MODELS = {
    model.id: model
    for model in (
        _RMBG_1_4,
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
        _BIREFNET_LITE,
        _SAM2,
        _SAM,
        *_BIREFNETS_SINCE_2025,
        *_BIREFNETS_OF_2024,
        _BEN2,
        _BOX_SEGMENTER,
        *_ISNETS,
        *_U2NETS,
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


def renamed(model: Model, tensors: Mapping[str, T], own: Collection[str]) -> dict[str, T]:
    """Return the tensors of a checkpoint by the names in the model's network.

    Parameters
    ----------
    model : Model
    tensors : mapping of str to T
        Tensors or their descriptions, with the prefixes of wrappers or the names of another library.
    own : collection of str
        Names in the network.
    """
    from rmbg.networks import mvanet
    from rmbg.networks.load import unwrapped

    found = unwrapped(tensors, own)
    return mvanet.rename(found) if model.architecture == "mvanet" else found
