"""Which implementation of an operator runs."""

from typing import Literal, get_args

from torch import Tensor

from cifasr.errors import BackendUnavailableError

Backend = Literal["auto", "reference", "vectorized", "triton"]
ResolvedBackend = Literal["reference", "vectorized"]


def resolve_backend(backend: Backend, tensor: Tensor) -> ResolvedBackend:
    """Turn a wish into the implementation that runs; a name asked for runs or raises.

    Args:
        backend: "auto" is "vectorized", on every device.
        tensor: An input of the operator; its device decides.

    Returns:
        The name of the implementation.

    Raises:
        ValueError: ``backend`` is not a name of a backend.
        BackendUnavailableError: ``backend`` was named and cannot run here.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend: got {backend!r}, wanted one of {', '.join(map(repr, get_args(Backend)))}")
    if backend == "triton":
        raise BackendUnavailableError(
            f"backend 'triton' is not part of this version (asked for on {tensor.device}); "
            "use 'auto' or 'vectorized', which run on every device"
        )
    return "vectorized" if backend == "auto" else backend
