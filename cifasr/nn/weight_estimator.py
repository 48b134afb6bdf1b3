"""From encoder frames to the neuron's input: how much of a token each frame holds."""

import torch
from torch import Tensor, nn

from cifasr.nn.conformer import ConformerBlock
from cifasr.nn.context import Context, attention_mask
from cifasr.nn.state import State, merged, scoped


class WeightEstimator(nn.Module):
    """Small Conformer blocks under the encoder's own chunk mask, then one sigmoid a frame.

    Args:
        d_encoder: Width of the frames read.
        d_model: Width of the blocks.
        num_layers: Blocks.
        num_heads: Heads of each.
        kernel_size: Of the causal convolution, in frames.
        detach_frames: Read the frames without sending gradients into them.
        initial_weight: Weight of a frame before training; near tokens per frame, so that counts start about right.
    """

    def __init__(
        self,
        d_encoder: int,
        *,
        d_model: int,
        num_layers: int,
        num_heads: int,
        kernel_size: int,
        detach_frames: bool,
        initial_weight: float,
    ) -> None:
        super().__init__()
        self.detach_frames = detach_frames
        self.project = nn.Linear(d_encoder, d_model)
        self.blocks = nn.ModuleList(
            ConformerBlock(d_model, num_heads, 2 * d_model, kernel_size) for _ in range(num_layers)
        )
        self.head = nn.Linear(d_model, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.constant_(self.head.bias, float(torch.logit(torch.tensor(initial_weight))))

    def forward(self, encoder_out: Tensor, lens: Tensor, context: Context) -> Tensor:
        """Weigh the frames of whole utterances.

        Args:
            encoder_out: (B, T, D).
            lens: (B,) int64.
            context: What a frame may see; the encoder's.

        Returns:
            alpha: (B, T) float32 in (0, 1); past ``lens`` it means nothing.
        """
        x = self.project(encoder_out.detach() if self.detach_frames else encoder_out)
        mask = attention_mask(lens, x.shape[1], context)
        for block in self.blocks:
            x = block(x, mask)
        return torch.sigmoid(self.head(x).squeeze(-1).float())

    def init_state(self, num_streams: int = 1) -> State:
        """Make the state of streams in which nothing was heard yet."""
        return merged({str(i): block.init_state(num_streams) for i, block in enumerate(self._typed_blocks())})

    def step(
        self, encoder_out: Tensor, state: State, left_frames: int | None, ahead_frames: int = 0
    ) -> tuple[Tensor, State]:
        """Weigh the frames of the next chunk.

        Args:
            encoder_out: (B, n, D).
            state: From `init_state` or the last step.
            left_frames: How much of the past a frame may see; None for all.
            ahead_frames: How many of the n are future that comes again with the next chunk: seen now, and not kept.

        Returns:
            alpha: (B, n).
            state: For the next step.
        """
        x = self.project(encoder_out)
        parts = {}
        for i, block in enumerate(self._typed_blocks()):
            x, parts[str(i)] = block.step(x, scoped(state, str(i)), left_frames, ahead_frames)
        return torch.sigmoid(self.head(x).squeeze(-1).float()), merged(parts)

    def _typed_blocks(self) -> list[ConformerBlock]:
        return [block for block in self.blocks if isinstance(block, ConformerBlock)]
