import pytest
import torch

import cifasr.ops.backend
from cifasr.errors import BackendUnavailableError
from cifasr.ops.backend import resolve_backend


class OnGpu:
    """What a tensor on a GPU says of itself."""

    is_cuda, device = True, torch.device("cuda", 0)


@pytest.fixture
def installed(monkeypatch):
    """Choose whether the package triton is there."""
    return lambda there: monkeypatch.setattr(cifasr.ops.backend, "find_spec", lambda name: "a spec" if there else None)


def test_auto_is_vectorized_on_a_cpu():
    assert resolve_backend("auto", torch.zeros(1)) == "vectorized"


@pytest.mark.parametrize(("there", "name"), [(True, "triton"), (False, "vectorized")])
def test_auto_on_a_gpu_is_triton_where_it_is_installed(installed, there, name):
    installed(there)

    assert resolve_backend("auto", OnGpu()) == name


@pytest.mark.parametrize("name", ["reference", "vectorized"])
def test_a_backend_asked_for_by_name_is_the_one_that_runs(name):
    assert resolve_backend(name, torch.zeros(1)) == name


def test_triton_asked_for_by_name_runs_on_a_gpu_and_in_the_interpreter(installed, monkeypatch):
    installed(True)
    monkeypatch.setenv("TRITON_INTERPRET", "1")

    assert [resolve_backend("triton", where) for where in (OnGpu(), torch.zeros(1))] == ["triton", "triton"]


def test_triton_without_a_gpu_raises_instead_of_falling_back(installed, monkeypatch):
    installed(True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    with pytest.raises(BackendUnavailableError, match=r"'triton'.*on cpu.*'vectorized'.*TRITON_INTERPRET=1"):
        resolve_backend("triton", torch.zeros(1))


def test_triton_that_is_not_installed_raises_instead_of_falling_back(installed):
    installed(False)

    with pytest.raises(BackendUnavailableError, match=r"'triton'.*not installed.*'vectorized'"):
        resolve_backend("triton", OnGpu())


def test_an_unknown_backend_is_told_the_choices():
    with pytest.raises(ValueError, match=r"'fast'.*'auto', 'reference', 'vectorized', 'triton'"):
        resolve_backend("fast", torch.zeros(1))
