"""Settings of the package, read from the ``RMBG_*`` environment variables."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from rmbg.errors import OptionError, printable
from rmbg.runtime.messages import Message, OwnerMessage

#: Default price of this machine in US dollars an hour, about that of a rented two-core server.
HOURLY_USD = Decimal("0.05")

#: For visitors, in the place of an invalid setting.
INVALID = Message("A setting of this server is invalid. Its log has the details for its owner.")

#: Persistent storage of a Space, if it has one.
SPACE_STORAGE = Path("/data")

#: Upper limits in US dollars of the price of an hour, the daily budget and the price of a credit.
MAX_HOURLY_USD, MAX_BUDGET_USD, MAX_CREDIT_USD = Decimal(10_000), Decimal(1_000_000), Decimal(1_000)


@dataclass(frozen=True)
class Settings:
    """Immutable settings of one process.

    Attributes
    ----------
    device, engine, precision : str
        Of local networks; ``auto`` selects the fastest available.
    weights : Path or None
        Folder with ``<provider id>.safetensors`` files, which take precedence over the hub.
    plugins : tuple of str or None
        Names of the plug-ins that are loaded; None for all that are installed.
    models : Path or None
        Folder with own checkpoints and ONNX files, which are listed as ``model:NAME``.
    prices : Path or None
        File with the owner's prices of services; None for ``prices.toml`` in the data folder, if it exists.
    max_pixels, max_bytes : int
        Limits of a photo, checked before decoding.
    hourly_usd : Decimal
        Price of an hour of this machine in US dollars, from which the cost of local providers is estimated.
    shared : bool
        True if the page is public (``RMBG_SHARED=1``, or running as a Space).
    server_keys : bool
        True if visitors of a shared server may use the keys of the environment.
    daily_budget_usd : Decimal or None
        Daily spending limit of the keys of the environment in US dollars; None for no limit.
    removebg_credit_usd : Decimal or None
        Price of a remove.bg credit in US dollars; None for the list price.
    remote_seconds : float
        Deadline of a remote provider for one picture in seconds, including uploads and downloads.
    photo_hosts : tuple of str
        Hosts on this machine, with ports, from which the address field of the page may load photos.
    result_hosts : tuple of str
        Hosts on this machine, with ports, from which results of services may be fetched.
    allow_hosts : tuple of str
        Host names at which the page is served, in addition to those of this machine.
    session_bytes, storage_bytes : int
        Disk quota of one visitor, and of all visitors together, in bytes.
    batch_files, batch_bytes : int
        Limits of a batch of a visitor: photos, and bytes of the upload and of the photos in its archives.
    trusted_proxies : tuple of str
        Addresses and networks of the reverse proxies whose forwarded headers are used; ``private`` stands for all private ones.
    rest_provider : str
        Id of the provider of ``/v1.0/removebg``, for requests that do not name one.
    metrics : {"local", "all", "off"}
        Clients that may read ``/metrics``: programs on this machine, all, or none.
    log_level, log_format : str
        Lowest level of the messages on standard error; ``text`` or ``json``.
    keep_seconds : float
        Lifetime of the files of a finished API call or download in seconds.
    visit_seconds : float
        Lifetime of the photos and results of a closed page in seconds.
    data : Path
        Folder for persistent data.
    environ : Mapping
        Environment from which the settings were read, which also holds the keys and service URLs.
    """

    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    weights: Path | None = None
    plugins: tuple[str, ...] | None = None
    models: Path | None = None
    prices: Path | None = None
    max_pixels: int = 64_000_000
    max_bytes: int = 40_000_000
    hourly_usd: Decimal = HOURLY_USD
    shared: bool = False
    server_keys: bool = False
    daily_budget_usd: Decimal | None = None
    removebg_credit_usd: Decimal | None = None
    remote_seconds: float = 180.0
    photo_hosts: tuple[str, ...] = ()
    result_hosts: tuple[str, ...] = ()
    allow_hosts: tuple[str, ...] = ()
    session_bytes: int = 2_000_000_000
    storage_bytes: int = 10_000_000_000
    batch_files: int = 100
    batch_bytes: int = 500_000_000
    trusted_proxies: tuple[str, ...] = ("private",)
    rest_provider: str = "builtin"
    metrics: str = "local"
    log_level: str = "warning"
    log_format: str = "text"
    keep_seconds: float = 120.0
    visit_seconds: float = 3600.0
    data: Path = Path()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """Return the settings without the environment, so that pickled settings contain no keys."""
        return {**self.__dict__, "environ": {}}

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read the settings from `environ`, by default the environment of the process.

        Raises
        ------
        OptionError
            If a value is invalid; the message names the variable.
        """
        env = os.environ if environ is None else environ
        switch, mega = ("0", "1"), 1_000_000
        return cls(
            device=env.get("RMBG_DEVICE", "").strip().lower() or cls.device,
            engine=_choice(env, "RMBG_ENGINE", cls.engine, "auto", "torch", "openvino", "onnxruntime"),
            precision=_choice(env, "RMBG_PRECISION", cls.precision, "auto", "fp32", "bf16", "fp16"),
            weights=_path(env, "RMBG_WEIGHTS"),
            plugins=_list(env, "RMBG_PLUGINS") if "RMBG_PLUGINS" in env else None,
            models=_path(env, "RMBG_MODELS"),
            prices=_path(env, "RMBG_PRICES"),
            max_pixels=_positive_int(env, "RMBG_MAX_PIXELS", cls.max_pixels),
            max_bytes=_positive_int(env, "RMBG_MAX_BYTES", cls.max_bytes),
            hourly_usd=_dollars(env, "RMBG_HOURLY_USD", HOURLY_USD, MAX_HOURLY_USD) or Decimal(0),
            shared=_choice(env, "RMBG_SHARED", "1" if env.get("SPACE_ID") else "0", *switch) == "1",
            server_keys=_choice(env, "RMBG_SERVER_KEYS", "0", *switch) == "1",
            daily_budget_usd=_dollars(env, "RMBG_DAILY_BUDGET_USD", None, MAX_BUDGET_USD),
            removebg_credit_usd=_dollars(env, "RMBG_REMOVEBG_CREDIT_USD", None, MAX_CREDIT_USD),
            remote_seconds=_duration(env, "RMBG_REMOTE_SECONDS", cls.remote_seconds, 86_400, "seconds such as 120"),
            photo_hosts=_list(env, "RMBG_PHOTO_HOSTS", str.lower),
            result_hosts=_list(env, "RMBG_RESULT_HOSTS", str.lower),
            allow_hosts=_list(env, "RMBG_ALLOW_HOSTS"),
            session_bytes=_positive_int(env, "RMBG_SESSION_MB", cls.session_bytes // mega) * mega,
            storage_bytes=_positive_int(env, "RMBG_STORAGE_MB", cls.storage_bytes // mega) * mega,
            batch_files=_positive_int(env, "RMBG_BATCH_FILES", cls.batch_files),
            batch_bytes=_positive_int(env, "RMBG_BATCH_MB", cls.batch_bytes // mega) * mega,
            trusted_proxies=_list(env, "RMBG_TRUSTED_PROXIES", str.lower) or cls.trusted_proxies,
            rest_provider=env.get("RMBG_REST_PROVIDER", "").strip() or cls.rest_provider,
            metrics=_choice(env, "RMBG_METRICS", cls.metrics, "local", "all", "off"),
            log_level=_choice(env, "RMBG_LOG_LEVEL", cls.log_level, "debug", "info", "warning", "error"),
            log_format=_choice(env, "RMBG_LOG_FORMAT", cls.log_format, "text", "json"),
            keep_seconds=_duration(env, "RMBG_KEEP_MINUTES", cls.keep_seconds / 60, 1440, "minutes such as 2") * 60,
            visit_seconds=_duration(env, "RMBG_KEEP_MINUTES", cls.visit_seconds / 60, 1440, "minutes such as 2") * 60,
            data=_data_folder(env),
            environ=dict(env),
        )


def _invalid(name: str, value: str, expected: str) -> OptionError:
    """Return the error for the value of a variable; `expected` is the end of the sentence."""
    return OptionError(OwnerMessage(f"{name} is {printable(value, 60)!r}; it must be {expected}", INVALID))


def _path(env: Mapping[str, str], name: str) -> Path | None:
    text = env.get(name, "").strip()
    return Path(text) if text else None


def _choice(env: Mapping[str, str], name: str, default: str, *choices: str) -> str:
    value = env.get(name, "").strip().lower() or default
    if value not in choices:
        raise _invalid(name, value, f"one of {', '.join(choices)}.")
    return value


def _positive_int(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "").strip().replace("_", "") or str(default)
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) < 1:
        raise _invalid(name, text, "a whole number of at least 1.")
    return int(text)


def _list(env: Mapping[str, str], name: str, normalize: Callable[[str], str] = str) -> tuple[str, ...]:
    return tuple(normalize(item.strip()) for item in env.get(name, "").split(",") if item.strip())


def _number(text: str) -> Decimal:
    """Return a number; NaN for another text."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def _dollars(env: Mapping[str, str], name: str, default: Decimal | None, maximum: Decimal) -> Decimal | None:
    text = env.get(name, "").strip().lstrip("$")
    if not text:
        return default
    value = _number(text)
    if not value.is_finite() or value < 0:
        raise _invalid(name, text, "an amount of US dollars such as 0.50.")
    if value > maximum:
        raise _invalid(name, text, f"at most {maximum:,} US dollars.")
    return value


def _duration(env: Mapping[str, str], name: str, default: float, maximum: float, expected: str) -> float:
    """Parse a positive number of at most `maximum`; `expected` is its unit and an example for the error message."""
    text = env.get(name, "").strip() or str(default)
    value = _number(text)
    if not (value.is_finite() and 0 < float(value) <= maximum):
        raise _invalid(name, text, f"a number of {expected}.")
    return float(value)


def _data_folder(env: Mapping[str, str]) -> Path:
    """Return the folder of ``RMBG_DATA``, by default the storage of a Space, or the system's folder for user data."""
    if env.get("RMBG_DATA", "").strip():
        return Path(env["RMBG_DATA"].strip())
    if env.get("SPACE_ID") and os.access(SPACE_STORAGE, os.W_OK):
        return SPACE_STORAGE / "rmbg"
    if os.name == "nt" and env.get("LOCALAPPDATA"):
        return Path(env["LOCALAPPDATA"]) / "rmbg"
    if env.get("XDG_DATA_HOME"):
        return Path(env["XDG_DATA_HOME"]) / "rmbg"
    try:
        return Path.home() / ".local" / "share" / "rmbg"
    except RuntimeError:  # no home folder, as in some containers
        return Path(tempfile.gettempdir()) / "rmbg"
