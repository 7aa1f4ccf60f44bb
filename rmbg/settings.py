"""Every knob, read from the environment in one place.

``Settings.from_environ()`` reads ``RMBG_*`` and the keys under the services' own names. Reading is cheap and has no side
effect, so callers read when they need a value and tests pass a dictionary.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from pathlib import Path

from rmbg.errors import OptionError, printable

#: Own hardware, US dollars an hour, where nothing is set: the order of what a rented two-core server costs (see prices.py).
HOURLY_USD = Decimal("0.05")


@dataclass(frozen=True)
class Settings:
    """The settings of one moment.

    Attributes
    ----------
    device, engine, precision : str
        What the user wants local networks to run on; ``auto`` leaves the choice to the program.
    weights : Path or None
        A folder with ``<provider id>.safetensors``, used before the hub is asked.
    max_pixels, max_bytes : int
        Limits at the door, checked before a picture is decoded.
    hourly_usd : Decimal
        What an hour of this machine costs, in US dollars, for the estimated cost of local providers.
    shared : bool
        Whether others than the owner of this machine send requests (``RMBG_SHARED=1``, or running as a Space).
    server_keys : bool
        Whether visitors of a shared server may use the owner's keys.
    daily_budget_usd : Decimal or None
        What the owner's keys may spend in a day.
    removebg_credit_usd : Decimal or None
        What a credit of the remove.bg-compatible service costs its owner; None: by the price list.
    remote_seconds : float
        How long a remote provider may take for one picture, uploads and downloads included.
    result_hosts : tuple of str
        Hosts added to those that results may be fetched from.
    data : Path
        The folder for what outlives the process.
    environ : Mapping
        The environment that the settings were read from: keys and addresses are looked up in it by name.
    """

    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    weights: Path | None = None
    max_pixels: int = 64_000_000
    max_bytes: int = 40_000_000
    hourly_usd: Decimal = HOURLY_USD
    shared: bool = False
    server_keys: bool = False
    daily_budget_usd: Decimal | None = None
    removebg_credit_usd: Decimal | None = None
    remote_seconds: float = 180.0
    result_hosts: tuple[str, ...] = ()
    data: Path = Path()
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Settings from `environ` (the process's environment if None).

        Raises
        ------
        OptionError
            If a value cannot be understood; the message names the variable.
        """
        env = os.environ if environ is None else environ
        weights = env.get("RMBG_WEIGHTS", "").strip()
        return cls(
            device=_word(env, "RMBG_DEVICE"),
            engine=_choice(env, "RMBG_ENGINE", ("auto", "torch", "openvino")),
            precision=_choice(env, "RMBG_PRECISION", ("auto", "fp32", "bf16", "fp16")),
            weights=Path(weights) if weights else None,
            max_pixels=_whole(env, "RMBG_MAX_PIXELS", cls.max_pixels),
            max_bytes=_whole(env, "RMBG_MAX_BYTES", cls.max_bytes),
            hourly_usd=_money(env, "RMBG_HOURLY_USD", HOURLY_USD) or Decimal(0),
            shared=_choice(env, "RMBG_SHARED", ("0", "1"), default="1" if env.get("SPACE_ID") else "0") == "1",
            server_keys=_choice(env, "RMBG_SERVER_KEYS", ("0", "1"), default="0") == "1",
            daily_budget_usd=_money(env, "RMBG_DAILY_BUDGET_USD", None),
            removebg_credit_usd=_money(env, "RMBG_REMOVEBG_CREDIT_USD", None),
            remote_seconds=_seconds(env, "RMBG_REMOTE_SECONDS", cls.remote_seconds),
            result_hosts=tuple(h.strip().lower() for h in env.get("RMBG_RESULT_HOSTS", "").split(",") if h.strip()),
            data=_data_folder(env),
            environ=dict(env),
        )


def _word(env: Mapping[str, str], name: str) -> str:
    return env.get(name, "").strip().lower() or "auto"


def _choice(env: Mapping[str, str], name: str, choices: tuple[str, ...], default: str = "auto") -> str:
    value = env.get(name, "").strip().lower() or default
    if value not in choices:
        raise OptionError(f"{name} is {printable(value, 60)!r}; it must be one of {', '.join(choices)}.")
    return value


def _whole(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "").strip().replace("_", "")
    if not text:
        return default
    if not re.fullmatch("[0-9]{1,18}", text) or int(text) < 1:
        raise OptionError(f"{name} is {printable(text, 60)!r}; it must be a whole number of at least 1.")
    return int(text)


def _money(env: Mapping[str, str], name: str, default: Decimal | None) -> Decimal | None:
    text = env.get(name, "").strip().lstrip("$")
    if not text:
        return default
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite() or value < 0:
        raise OptionError(f"{name} is {printable(text, 60)!r}; it must be an amount of US dollars such as 0.50.")
    return value


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "").strip() or str(default)
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 86_400:
        raise OptionError(f"{name} is {text!r}; it must be a number of seconds such as 120.")
    return value


def _data_folder(env: Mapping[str, str]) -> Path:
    """The user's data folder by the habit of each system, unless ``RMBG_DATA`` names another."""
    if env.get("RMBG_DATA", "").strip():
        return Path(env["RMBG_DATA"].strip())
    if os.name == "nt" and env.get("LOCALAPPDATA"):
        return Path(env["LOCALAPPDATA"]) / "rmbg"
    if env.get("XDG_DATA_HOME"):
        return Path(env["XDG_DATA_HOME"]) / "rmbg"
    try:
        return Path.home() / ".local" / "share" / "rmbg"
    except RuntimeError:  # a container's user without a home
        return Path(tempfile.gettempdir()) / "rmbg"
