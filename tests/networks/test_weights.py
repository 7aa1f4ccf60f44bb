"""The weights files of the package."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from rmbg.networks import builtin, builtin_spec, refiner, refiner_spec


@pytest.mark.parametrize(("spec", "max_megabytes"), [(builtin_spec, 12), (refiner_spec, 3)])
def test_weights_file(spec, max_megabytes: int) -> None:
    data = spec.WEIGHTS.read_bytes()
    assert len(data) <= max_megabytes * 1_000_000
    assert hashlib.sha256(data).hexdigest() == spec.SHA256


@pytest.mark.parametrize(("spec", "network"), [(builtin_spec, builtin), (refiner_spec, refiner)])
def test_damaged_weights_are_rejected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spec, network) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(spec.WEIGHTS.read_bytes()[:-1] + b"\xff")
    monkeypatch.setattr(spec, "WEIGHTS", damaged)
    with pytest.raises(ValueError, match="damaged"):
        network.load()
