"""Hopfield networks: memories to which a damaged copy falls back.

The classical one keeps patterns of signs in a matrix of correlations. It holds few: past 0.138 patterns a neuron they
disturb each other so much that none is found again. The modern one keeps the patterns themselves and answers with
their average, weighed by a softmax of how well each fits: one look of attention. It holds exponentially many, and for
a large ``beta`` it is the nearest neighbour.
"""

import math

import torch
from torch import Tensor

CRITICAL_LOAD = 0.138
"""Patterns a neuron above which nothing is found again: Amit, Gutfreund and Sompolinsky, Phys. Rev. Lett. 55, 1985."""


def store(patterns: Tensor) -> Tensor:
    """Correlate patterns of signs: ``W = X' X / N`` with a diagonal of zeros.

    Args:
        patterns: (P, N) float, each -1 or 1.

    Returns:
        (N, N) weights.

    Source:
        Hopfield, PNAS 79, 1982.
    """
    return (patterns.T @ patterns / patterns.shape[1]).fill_diagonal_(0)


def energy(weights: Tensor, states: Tensor) -> Tensor:
    """What every change that `recall` makes lowers: (N, N) and (B, N) to (B,)."""
    return -0.5 * ((states @ weights) * states).sum(1)


def recall(weights: Tensor, states: Tensor, generator: torch.Generator, max_sweeps: int = 50) -> Tensor:
    """Let the neurons take the sign of what they hear, one after another, until none changes.

    A neuron that hears nothing stays as it is.

    Args:
        weights: (N, N), symmetric, zero on the diagonal.
        states: (B, N) of -1 and 1.
        generator: Draws a new order of the neurons for each sweep, one for the whole batch.
        max_sweeps: Sweeps over all neurons after which to stop in any case.

    Returns:
        (B, N) of -1 and 1.
    """
    columns = states.T.contiguous()  # (N, B): what one neuron hears and says is a row
    for _ in range(max_sweeps):
        before = columns.clone()
        for neuron in torch.randperm(len(columns), generator=generator).tolist():
            heard = weights[neuron] @ columns
            columns[neuron] = torch.where(heard == 0, columns[neuron], heard.sign())
        if torch.equal(before, columns):
            break
    return columns.T.contiguous()


def bit_error(load: float) -> float:
    """Probability that a bit of a stored pattern flips in the first step.

    Args:
        load: Patterns a neuron, > 0.

    Source:
        Hertz, Krogh and Palmer, Introduction to the Theory of Neural Computation, 1991, section 2.2.
    """
    return 0.5 * math.erfc(1 / math.sqrt(2 * load))


def perfect_capacity(num_neurons: int) -> tuple[float, float]:
    """How many patterns are kept without a wrong bit: almost every one of them, and all of them at once.

    Returns:
        N / (2 ln N) and N / (4 ln N).

    Source:
        McEliece, Posner, Rodemich and Venkatesh, IEEE Trans. Inf. Theory 33, 1987.
    """
    return num_neurons / (2 * math.log(num_neurons)), num_neurons / (4 * math.log(num_neurons))


def modern_recall(patterns: Tensor, queries: Tensor, beta: float) -> Tensor:
    """Average the patterns, each weighed by how well it fits the query: ``softmax(beta * q X') X``.

    Args:
        patterns: (P, N) float.
        queries: (B, N) float.
        beta: Sharpness, > 0, in the inverse of a pattern's squared length.

    Returns:
        (B, N) float.

    Source:
        Ramsauer et al., ICLR 2021, arXiv:2008.02217, equation 3.
    """
    return torch.softmax(beta * queries @ patterns.T, dim=1) @ patterns


def modern_energy(patterns: Tensor, queries: Tensor, beta: float) -> Tensor:
    """What every step of `modern_recall` lowers, equation 2 there but for a constant: (P, N) and (B, N) to (B,)."""
    fit = torch.logsumexp(beta * queries @ patterns.T, dim=1) / beta
    return 0.5 * queries.square().sum(1) - fit
