"""Interface of plug-ins: what a package that adds a provider imports.

A plug-in is an instance of a subclass of `Provider`, `Remote` or `Service`, and an entry point of the group ``rmbg.providers``
whose name is the id of the provider. ``docs/tutorial-plugin.md`` builds one.

The interface has a version of its own, `VERSION`, which follows Semantic Versioning: the first number is increased when a name
is removed or changed incompatibly, the second one when a name is added. Other modules may change in any version of the package.
"""

from rmbg.billing.cost import Cost
from rmbg.billing.quote import Price
from rmbg.cutout import Cutout
from rmbg.errors import (
    CancelledError,
    ModelError,
    NoSubjectError,
    NotReadyError,
    OptionError,
    PhotoError,
    RmbgError,
    ServiceError,
)
from rmbg.images.photo import Photo
from rmbg.inference.engines import Plan
from rmbg.net.client import Request, Response
from rmbg.providers.base import Execution, Option, Provider, ProviderInfo, RequestContext, Status
from rmbg.providers.local import local_cutout, on_device
from rmbg.providers.remote import EncodedPhoto, PaidCall, ProviderResult, Remote, download, http_failure, picture
from rmbg.providers.service import Jobs, Service
from rmbg.runtime.telemetry import Timer
from rmbg.settings import Settings

VERSION = "1.1"

__all__ = [
    "CancelledError",
    "Cost",
    "Cutout",
    "EncodedPhoto",
    "Execution",
    "Jobs",
    "ModelError",
    "NoSubjectError",
    "NotReadyError",
    "Option",
    "OptionError",
    "PaidCall",
    "Photo",
    "PhotoError",
    "Plan",
    "Price",
    "Provider",
    "ProviderInfo",
    "ProviderResult",
    "Remote",
    "Request",
    "RequestContext",
    "Response",
    "RmbgError",
    "ServiceError",
    "Service",
    "Settings",
    "Status",
    "Timer",
    "VERSION",
    "download",
    "http_failure",
    "local_cutout",
    "on_device",
    "picture",
]
