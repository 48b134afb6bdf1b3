"""The Triton operators on made-up inputs, both ways: what is compiled, and what is counted, when no GPU is there."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Size(NamedTuple):
    """How large a problem is: rows B, frames T, features D, and the mean weight of a frame, in tokens."""

    batch_size: int = 8
    num_frames: int = 1600
    d_model: int = 512
    mean_alpha: float = 0.15


class Problem(NamedTuple):
    """One operator with its inputs.

    Attributes:
        inputs: Every tensor that it must read.
        learned: Those of them that want a gradient.
        run: Gives every tensor that it must write; the first carries the gradient.
    """

    inputs: list[Tensor]
    learned: list[Tensor]
    run: Callable[[], tuple[Tensor, ...]]

    def both_ways(self) -> None:
        """Run forward and backward."""
        result = self.run()[0]
        torch.autograd.grad(result, self.learned, torch.ones_like(result))


def cif_problem(size: Size, dtype: torch.dtype, scaled: bool) -> Problem:
    """CIF over full rows of random weights, float32.

    Args:
        size: How large.
        dtype: Of the frames.
        scaled: Whether to scale to target lengths, as in training; else a tail fires, as in recognition.

    Returns:
        The problem; the width of the output is given, so that nothing waits for a device.
    """
    from cifasr.ops.cif.triton_backend import cif_triton  # triton is optional

    B, T, D, mean_alpha = size
    generator = torch.Generator().manual_seed(0)
    frames = torch.randn(B, T, D, generator=generator).to(dtype).requires_grad_()
    alpha = torch.rand(B, T, generator=generator) * (2 * mean_alpha)
    counts = alpha.sum(1).round().long()
    width = int(counts.max())
    frame_lens, target_lens = torch.full((B,), T), counts if scaled else None

    def run() -> tuple[Tensor, ...]:
        return cif_triton(
            frames,
            frame_lens,
            alpha,
            threshold=1.0,
            target_lens=target_lens,
            max_tokens=width,
            tail_threshold=None if scaled else 0.5,
        )

    inputs = [frames, frame_lens, alpha.requires_grad_(), *([] if target_lens is None else [target_lens])]
    return Problem(inputs, [frames, alpha], run)


def lif_problem(size: Size, dtype: torch.dtype, to_zero: bool) -> Problem:
    """LIF over full rows of random currents; the surrogate is the default.

    Args:
        size: How large; the mean weight is not used.
        dtype: Of the current.
        to_zero: Whether a spike resets the membrane to zero; else it takes the threshold off.

    Returns:
        The problem.
    """
    from cifasr.ops.lif.surrogate import ATan
    from cifasr.ops.lif.triton_backend import lif_triton  # triton is optional

    B, T, D, _ = size
    generator = torch.Generator().manual_seed(0)
    current = torch.randn(B, T, D, generator=generator).to(dtype).requires_grad_()
    input_lens = torch.full((B,), T)
    membrane = torch.zeros(B, D, requires_grad=True)

    def run() -> tuple[Tensor, ...]:
        return lif_triton(
            current,
            input_lens,
            membrane,
            decay=0.9,
            threshold=1.0,
            reset="zero" if to_zero else "subtract",
            surrogate=ATan(),
            detach_reset=False,
        )

    return Problem([current, input_lens, membrane], [current, membrane], run)


PROBLEMS: dict[str, tuple[Callable[[Size, torch.dtype, bool], Problem], tuple[str, str]]] = {
    "cif": (cif_problem, ("unscaled", "scaled")),
    "lif": (lif_problem, ("soft reset", "reset to zero")),
}
"""For each operator what makes its problem, and the names of its last argument's two values."""
