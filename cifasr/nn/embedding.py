"""An embedding that is used both ways: tokens in, scores of tokens out."""

from torch import Tensor, nn


class TiedEmbedding(nn.Embedding):
    """Embeds tokens, and scores them with the same weights."""

    def scores(self, x: Tensor) -> Tensor:
        """Score every token for each of ``x`` (..., D); returns (..., V)."""
        return nn.functional.linear(x, self.weight)
