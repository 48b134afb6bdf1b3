"""Multi-head attention over keys that were projected once and may be kept in a cache."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifasr.nn.state import State, keep_left


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention; keys and values are projected apart from queries, so that a stream keeps them.

    Args:
        d_model: Width of queries and of the output.
        num_heads: Heads; divides ``d_model``.
        rotary: Rotate queries and keys by their places among the keys given (RoPE, arXiv:2104.09864), so that only
            distances count.
        d_memory: Width of what keys and values are made from; ``d_model`` where not given.

    Source:
        Vaswani et al. 2017, arXiv:1706.03762, section 3.2; no bias on keys, as in Whisper: softmax ignores it.
    """

    def __init__(self, d_model: int, num_heads: int, *, rotary: bool = False, d_memory: int | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.rotary = rotary
        d_memory = d_model if d_memory is None else d_memory
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_memory, d_model, bias=False)
        self.value = nn.Linear(d_memory, d_model)
        self.out = nn.Linear(d_model, d_model)

    def project_memory(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Make keys and values.

        Args:
            memory: (B, T, d_memory).

        Returns:
            keys, values: (B, H, T, d_model / H) each.
        """
        return self._split(self.key(memory)), self._split(self.value(memory))

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from ``x`` to the keys.

        Args:
            x: (B, L, D) queries. With ``rotary`` they stand at the last L places of the keys.
            keys: (B, H, T, D / H).
            values: (B, H, T, D / H).
            mask: Broadcastable to (B, H, L, T), True where a query may see a key; None for all.

        Returns:
            (B, L, D).
        """
        queries = self._split(self.query(x))
        if self.rotary:
            queries = rotate(queries, first=keys.shape[2] - queries.shape[2])
            keys = rotate(keys, first=0)
        heads = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        output: Tensor = self.out(heads.transpose(1, 2).flatten(2))
        return output

    def num_products(self, x: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None = None) -> tuple[int, int]:
        """Count what a call multiplies besides its linear layers.

        Returns:
            Products of queries with keys and of weights with values; keys and values read.
        """
        if mask is None:
            pairs = x.shape[0] * x.shape[1] * keys.shape[2]
        else:
            pairs = int(mask.expand(x.shape[0], 1, x.shape[1], keys.shape[2]).sum())
        return 2 * pairs * x.shape[2], keys.numel() + values.numel()

    def init_cache(self, num_streams: int) -> State:
        """Make keys and values (B, H, 0, D / H) of streams in which nothing was heard yet."""
        empty = torch.zeros(num_streams, self.num_heads, 0, self.out.out_features // self.num_heads)
        return {"keys": empty, "values": empty}

    def step(self, x: Tensor, cache: State, left_frames: int | None, ahead_frames: int = 0) -> tuple[Tensor, State]:
        """Attend from the next chunk of a stream to itself and its past.

        Args:
            x: (B, n, D).
            cache: From `init_cache` or the last step.
            left_frames: How much of the past the next chunk may see; None for all.
            ahead_frames: How many of the n are future that comes again with the next chunk: seen now, and not kept.

        Returns:
            (B, n, D), and the cache of what follows.
        """
        new_keys, new_values = self.project_memory(x)
        keys, kept_keys = keep_left(cache["keys"], new_keys, left_frames, 2, ahead_frames)
        values, kept_values = keep_left(cache["values"], new_values, left_frames, 2, ahead_frames)
        return self(x, keys, values), {"keys": kept_keys, "values": kept_values}

    def weights(self, x: Tensor, keys: Tensor, heads: list[int], mask: Tensor) -> Tensor:
        """Compute the attention weights of some heads, for alignments.

        Args:
            x: (B, L, D).
            keys: (B, H, T, D / H).
            heads: Which heads.
            mask: Broadcastable to (B, 1, L, T), True where seen.

        Returns:
            (B, len(heads), L, T), each row a distribution over T.
        """
        queries = self._split(self.query(x))[:, heads]
        scores = queries @ keys[:, heads].transpose(2, 3) / queries.shape[-1] ** 0.5
        weights: Tensor = scores.masked_fill(~mask, float("-inf")).softmax(-1)
        return weights

    def _split(self, x: Tensor) -> Tensor:
        width = x.shape[-1] // self.num_heads
        return x.view(*x.shape[:-1], self.num_heads, width).transpose(1, 2)


def rotate(x: Tensor, *, first: int) -> Tensor:
    """Rotate each pair of features by an angle that grows with its place.

    Args:
        x: (B, H, T, E), E even.
        first: Place of the first of the T.

    Returns:
        (B, H, T, E).
    """
    half = x.shape[-1] // 2
    place = torch.arange(first, first + x.shape[2], device=x.device, dtype=torch.float32)
    frequency = 10_000.0 ** (-torch.arange(half, device=x.device, dtype=torch.float32) / half)
    angle = place[:, None] * frequency  # (T, E / 2)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
