"""A gated Hebbian memory: weights that change while they are used, and only when a gate says so.

What is written is the product of a key and a value. Before, the key's old answer is taken off, so that a second lesson
replaces the first; what is never refreshed decays. The gate is the teaching signal: at zero nothing is written.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HebbianMemory:
    """How to write. Weights are handed in and out: (B, K, V), a memory for each of the batch.

    Attributes:
        rate: Share of an answer that a write with an open gate and a key of length 1 replaces, in [0, 1].
        max_weight: Size that no weight grows past where keys have one entry; the nearer, the smaller the change.
            Infinity for no bound.
        decay: Share of a weight that is left after each step, in [0, 1].

    Raises:
        ValueError: A number is out of its range.

    Source:
        After Razavi Rohani, Hedayatian and Baghshah, BIMRL, IROS 2022, arXiv:2210.16530: correlation of key and value,
        a soft bound, the keys' own correlation against growth, and a gate. There the gate scales the value alone, the
        bound is one-sided, for values that are not negative, and two learnt matrices mix the terms; here the gate
        scales the whole write, the bound has two sides, and nothing is learnt but the weights.
    """

    rate: float = 1.0
    max_weight: float = math.inf
    decay: float = 1.0

    def __post_init__(self) -> None:
        for name, value in (("rate", self.rate), ("decay", self.decay)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        if self.max_weight <= 0:
            raise ValueError(f"max_weight must be above 0, got {self.max_weight}")

    def init_weights(self, batch_size: int, d_key: int, d_value: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Weights that know nothing: (B, K, V) zeros."""
        return torch.zeros(batch_size, d_key, d_value, dtype=dtype)

    def read(self, weights: Tensor, keys: Tensor) -> Tensor:
        """Answer a key: (B, K, V) and (B, K) to (B, V)."""
        return torch.einsum("bkv,bk->bv", weights, keys)

    def write(self, weights: Tensor, keys: Tensor, values: Tensor, gate: Tensor) -> Tensor:
        """Go on by a step: let all weights decay, then put a value where the key's old answer was.

        ``w <- decay * w``, then ``w <- w + rate * gate * (k v - |k v| w / max_weight - k (k . w))``.

        Args:
            weights: (B, K, V).
            keys: (B, K), of length 1: a longer one replaces more than there was, and above the square root of 2 the
                memory diverges.
            values: (B, V), what the teacher says.
            gate: (B,) in [0, 1], whether it is worth keeping.

        Returns:
            The weights after it, (B, K, V).
        """
        weights = self.decay * weights
        lesson = keys[:, :, None] * values[:, None, :]
        full = lesson.abs() * weights / self.max_weight
        old = keys[:, :, None] * self.read(weights, keys)[:, None, :]
        return weights + self.rate * gate[:, None, None] * (lesson - full - old)
