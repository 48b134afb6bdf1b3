"""For the operator's tests: memory that nobody wrote holds NaN, and the interpreter gets fewer examples."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

INTERPRETED_EXAMPLES = 6  # of each property: Triton's interpreter takes milliseconds for a program


@pytest.fixture(autouse=True)
def _unwritten_memory_holds_nan() -> Iterator[None]:
    """Integers hold their largest. Every element of a result that equals what is wanted was therefore written."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def _fewer_examples_where_interpreted(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    callspec = getattr(request.node, "callspec", None)
    test = getattr(request.function, "__func__", request.function)
    if callspec and callspec.params.get("backend") == "triton" and hasattr(test, "hypothesis"):
        place = "_hypothesis_internal_use_settings"  # Hypothesis has no public way to set them for one parameter
        fewer = settings(getattr(test, place), max_examples=INTERPRETED_EXAMPLES)
        monkeypatch.setattr(test, place, fewer)
