"""Seeds, Hypothesis profiles, and what is skipped aloud."""

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    no_data = pytest.mark.skip(reason=f"needs the real speech in {SHARED_DATA}, which is absent")
    no_gpu = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if item.get_closest_marker("shared_data") and not SHARED_DATA.is_dir():
            item.add_marker(no_data)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real speech; skips aloud where it is absent, with or without the mark."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real speech in {SHARED_DATA}, which is absent")
    return SHARED_DATA
