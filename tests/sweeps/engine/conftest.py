"""Swept studies that the engine's tests compare with. Tests must not write to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.helpers import small_sweep


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which `small_sweep.four_runs()` has been run in one go."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    small_sweep.sweep(folder, small_sweep.four_runs())
    return folder


@pytest.fixture(scope="session")
def plateau_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which `small_sweep.plateau_study()` has been run in one go."""
    folder = tmp_path_factory.mktemp("plateau")
    small_sweep.sweep(folder, small_sweep.plateau_study())
    return folder
