import pytest
import torch

from cifasr.errors import BackendUnavailableError
from cifasr.ops.backend import resolve_backend


def test_auto_is_vectorized_on_a_cpu():
    assert resolve_backend("auto", torch.zeros(1)) == "vectorized"


@pytest.mark.parametrize("name", ["reference", "vectorized"])
def test_a_backend_asked_for_by_name_is_the_one_that_runs(name):
    assert resolve_backend(name, torch.zeros(1)) == name


def test_a_backend_that_cannot_run_raises_instead_of_falling_back(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    with pytest.raises(BackendUnavailableError, match=r"backend 'triton'.*on cpu.*'vectorized'"):
        resolve_backend("triton", torch.zeros(1))


def test_an_unknown_backend_is_told_the_choices():
    with pytest.raises(ValueError, match=r"'fast'.*'auto', 'reference', 'vectorized', 'triton'"):
        resolve_backend("fast", torch.zeros(1))
