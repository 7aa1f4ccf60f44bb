"""Fixtures for batches with the provider `Disc`."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def registered(disc):
    """Register the provider for all tests of this folder."""


@pytest.fixture
def batch(rmbg):
    """Run ``batch IN OUT --provider disc``; returns exit status, standard output and standard error."""
    return lambda *arguments: rmbg("batch", *arguments, "--provider", "disc")
