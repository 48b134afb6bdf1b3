"""Every backend as one function on CPU tensors, and memory that holds NaN before it is written."""

from collections.abc import Callable, Iterator

import pytest
import torch

from cifasr.ops.lif import LifOutput, lif

BACKENDS = ["reference", "vectorized", "triton", pytest.param("triton on a GPU", marks=pytest.mark.gpu)]


@pytest.fixture(scope="session", params=BACKENDS)
def neurons(request: pytest.FixtureRequest) -> Callable[..., LifOutput]:
    """``lif`` on one backend: takes and gives tensors on the CPU, wherever it runs."""
    backend, *on_gpu = request.param.split(" ", maxsplit=1)
    if backend == "triton":
        pytest.importorskip("triton")
    if request.param == "triton" and torch.cuda.is_available():
        pytest.skip("on a machine with a GPU its twin runs")
    device = "cuda" if on_gpu else "cpu"

    def run(current, input_lens, *, membrane=None, **options):
        membrane = None if membrane is None else membrane.to(device)
        out = lif(current.to(device), input_lens.to(device), membrane=membrane, backend=backend, **options)
        return LifOutput(*(x.cpu() for x in out))

    return run


@pytest.fixture(autouse=True)
def _unwritten_memory_holds_nan() -> Iterator[None]:
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)
