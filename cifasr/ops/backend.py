"""Which implementation of an operator runs."""

import os
from importlib.util import find_spec
from typing import Literal, get_args

from torch import Tensor

from cifasr.errors import BackendUnavailableError

Backend = Literal["auto", "reference", "vectorized", "triton"]
ResolvedBackend = Literal["reference", "vectorized", "triton"]


def resolve_backend(backend: Backend, tensor: Tensor) -> ResolvedBackend:
    """Turn a wish into the implementation that runs; a name asked for runs or raises.

    Args:
        backend: "auto" is "triton" on a GPU where triton is installed, and "vectorized" elsewhere.
        tensor: An input of the operator; its device decides.

    Returns:
        The name of the implementation.

    Raises:
        ValueError: ``backend`` is not a name of a backend.
        BackendUnavailableError: ``backend`` was named and cannot run here.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend: got {backend!r}, wanted one of {', '.join(map(repr, get_args(Backend)))}")
    if backend == "auto":
        return "triton" if tensor.is_cuda and find_spec("triton") else "vectorized"
    if backend == "triton":
        _check_triton(tensor)
    return backend


def _check_triton(tensor: Tensor) -> None:
    otherwise = "use 'auto' or 'vectorized', which run on every device"
    if not find_spec("triton"):
        raise BackendUnavailableError(f"backend 'triton': the package triton is not installed here; {otherwise}")
    if not tensor.is_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise BackendUnavailableError(
            f"backend 'triton' runs on a GPU, and tensors are on {tensor.device}; {otherwise}, "
            "or set TRITON_INTERPRET=1 before the start to run its kernels in Triton's slow interpreter"
        )
