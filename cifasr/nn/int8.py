"""Weights of eight bits for recognition on a CPU: half the time of float32, and next to no errors more.

A recogniser that hears a chunk at a time has few rows to multiply and spends its time on reading weights. Each row of
a weight matrix is held as int8 with one scale, as checkpoints keep it. What is multiplied with it is rounded to eight
bits row by row on the way, so that a row's result depends on no other row; the sums are exact in int32.
"""

import torch
from torch import Tensor, nn

from cifasr.nn.embedding import TiedEmbedding
from cifasr.processor import cpu_flags

_LEVELS = 127


def has_int8() -> bool:
    """Say whether this processor adds up int8 products in 32 bits: VNNI, on x86.

    Others add pairs of them in 16 bits first, which overflow: slower, and wrong.
    """
    return bool({"avx512_vnni", "avx_vnni"} & cpu_flags())


def use_int8(module: nn.Module) -> None:
    """Put int8 layers in the places of a module's linear layers and tied embeddings. It does not learn any more."""
    for name, child in module.named_children():
        if isinstance(child, nn.Linear):
            setattr(module, name, Int8Linear(child.weight, child.bias))
        elif isinstance(child, TiedEmbedding):
            setattr(module, name, Int8Embedding(child))
        else:
            use_int8(child)


def round_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round each row of a weight (O, ...) to eight bits.

    Returns:
        One scale a row, (O,) float32, and the rows as multiples of it, (O, ...) int8.
    """
    rows = weight.detach().float().flatten(1)
    scale = rows.abs().amax(1).clamp_min(1e-8) / _LEVELS
    return scale, (rows / scale[:, None]).round().to(torch.int8).view(weight.shape)


class Int8Linear(nn.Module):
    """A linear layer with int8 weights.

    Args:
        weight: (O, I) float.
        bias: (O,) or None.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self._scale, self._rows = round_rows(weight)
        self._bias = None if bias is None else bias.detach().float()

    def forward(self, x: Tensor) -> Tensor:
        """Multiply ``x`` (..., I) float32; returns (..., O) float32."""
        scale, rows = round_rows(x.reshape(-1, self.in_features))
        output = torch._int_mm(rows, self._rows.t()).float() * scale[:, None] * self._scale
        if self._bias is not None:
            output += self._bias
        return output.view(*x.shape[:-1], self.out_features)


class Int8Embedding(nn.Module):
    """A tied embedding with int8 rows.

    Args:
        embedding: The float one.
    """

    def __init__(self, embedding: TiedEmbedding) -> None:
        super().__init__()
        self._output = Int8Linear(embedding.weight, None)

    def forward(self, tokens: Tensor) -> Tensor:
        """Look up tokens (...,) int64; returns (..., D) float32."""
        return self._output._rows[tokens].float() * self._output._scale[tokens][..., None]

    def scores(self, x: Tensor) -> Tensor:
        """Score every token for each of ``x`` (..., D); returns (..., V)."""
        output: Tensor = self._output(x)
        return output
