"""Outputs of a batch under concurrent workers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from rmbg.batch.outputs import open_output
from rmbg.settings import Settings


@pytest.mark.parametrize("kind", ["folder", "zip", "object store"])
def test_workers_probe_concurrently(kind, tmp_path):
    """Every worker of a paid batch probes the output before each call; a false error would end the batch."""
    name = {"folder": str(tmp_path / "out"), "zip": str(tmp_path / "out.zip"), "object store": f"memory://{tmp_path.name}/out"}
    output = open_output(name[kind], Settings(data=tmp_path / "data"))
    output.prepare()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: output.probe(), range(400)))
    assert not list(tmp_path.rglob("*.part"))
