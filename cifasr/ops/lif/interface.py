"""The LIF operator as users call it: checks and choice, no maths."""

from collections.abc import Callable

import torch
from torch import Tensor

from cifasr.ops.backend import Backend, ResolvedBackend, resolve_backend
from cifasr.ops.lif.checks import check_input_lens, check_options, check_tensors, membrane_dtype
from cifasr.ops.lif.output import LifOutput, Reset
from cifasr.ops.lif.reference import lif_reference
from cifasr.ops.lif.surrogate import ATan, Surrogate
from cifasr.ops.lif.vectorized import lif_vectorized


def lif(
    current: Tensor,
    input_lens: Tensor,
    *,
    decay: float,
    threshold: float = 1.0,
    reset: Reset = "subtract",
    membrane: Tensor | None = None,
    surrogate: Surrogate = ATan(),  # noqa: B008 - frozen
    detach_reset: bool = False,
    backend: Backend = "auto",
) -> LifOutput:
    """Let B * D leaky integrate-and-fire neurons hear T steps of current.

    In each step a neuron keeps ``decay`` of its membrane, adds the current, fires where that reaches ``threshold``,
    and resets::

        potential[t] = decay * membrane[t-1] + current[t]
        spikes[t]    = potential[t] >= threshold
        membrane[t]  = potential[t] - spikes[t] * threshold        reset "subtract"; for "zero", * potential[t]

    The membrane is the whole state: a sequence cut anywhere, with the membrane carried from call to call, spikes as
    the whole does, bit for bit; so do all backends on float32.

    **Two conventions of input.** As written, a constant current X settles at ``X / (1 - decay)``. Where it is to
    settle at X, which is the exact step of ``tau * dV/dt = X - V`` for ``decay = exp(-dt / tau)``, scale it yourself,
    ``lif((1 - decay) * current, ...)``, best in the weights of the layer that makes it.

    **CIF.** With decay 1, threshold 1 and reset "subtract" this is CIF's neuron: driven by ``alpha`` it fires in the
    frames in which ``cif`` fires: exactly so where sums are exact (``alpha`` a whole number of ``2**-24``, as ``cif``
    rounds it, in float64; of ``2**-23`` in float32) and no frame outweighs the threshold. A spike is binary: of a
    heavier frame ``cif`` fires all tokens at once, whereas here the surplus stays in the membrane and fires in the
    steps that follow, one a step.

    Args:
        current: (B, T, D) float, finite.
        input_lens: (B,) int64, 0 to T. Steps past it change nothing, whatever they hold. Lengths on a CPU are
            checked; on a GPU they are clamped instead, since a check would wait for the device.
        decay: Part of the membrane kept in a step, 0 to 1; 1 is a neuron without leak (IF).
        threshold: Membrane at which a neuron fires, > 0.
        reset: "subtract" (soft) takes the threshold off and keeps what was above it; "zero" (hard) keeps nothing.
        membrane: (B, D) before the first step, from the call before; float32, or float64 for a float64 current. None
            is zero.
        surrogate: What the backward pass takes for the derivative of a spike.
        detach_reset: Whether gradients pass by the reset, as if its spike were a constant.
        backend: "auto" is "triton" on a GPU where triton is installed, and "vectorized" elsewhere.

    Returns:
        Spikes and the membrane for the next call: see ``LifOutput``.

    Raises:
        ValueError: A shape or a value is not as above.
        TypeError: ``surrogate`` is none of `ATan`, `Sigmoid`, `FastSigmoid`, `Rect`.
        BackendUnavailableError: ``backend`` was named and cannot run here.

    Source:
        Wu et al. (STBP), Frontiers in Neuroscience 2018, 10.3389/fnins.2018.00331, whose reset is "zero" up to a
        small rest; firing at the threshold itself, not only above it, as in SpikingJelly, since CIF needs it.
    """
    check_tensors(current, input_lens, membrane)
    check_options(decay, threshold, reset, surrogate)
    chosen = resolve_backend(backend, current)
    if input_lens.device.type == "cpu" and not torch.compiler.is_compiling():
        check_input_lens(input_lens, current.shape[1])
    if membrane is None:
        B, _, D = current.shape
        membrane = current.new_zeros(B, D, dtype=membrane_dtype(current))
    return _implementation(chosen)(
        current,
        input_lens,
        membrane,
        decay=decay,
        threshold=threshold,
        reset=reset,
        surrogate=surrogate,
        detach_reset=detach_reset,
    )


def _implementation(backend: ResolvedBackend) -> Callable[..., LifOutput]:
    if backend == "triton":
        from cifasr.ops.lif.triton_backend import lif_triton  # triton is optional

        return lif_triton
    return lif_reference if backend == "reference" else lif_vectorized
