"""From encoder frames to the neuron's input: how much of a token each frame holds."""

import math
from typing import Literal

import torch
from torch import Tensor, nn

from cifasr.nn.conformer import ConformerBlock
from cifasr.nn.context import Context, attention_mask
from cifasr.nn.state import State, merged, scoped
from cifasr.spiking.lif import LIF

WeightNeuron = Literal["sigmoid", "lif"]

_POPULATION = 16
_DECAY = 0.9
"""Of the leaky neurons' membrane in a frame. The more they forget, the harder is it to make them fire seldom."""


class WeightEstimator(nn.Module):
    """Small Conformer blocks under the encoder's own chunk mask, then one sigmoid a frame, or leaky neurons.

    With leaky neurons a frame weighs the share of 16 of them that fire in it: a weight that remembers, in sixteenths.

    Args:
        d_encoder: Width of the frames read.
        d_model: Width of the blocks.
        num_layers: Blocks.
        num_heads: Heads of each.
        kernel_size: Of the causal convolution, in frames.
        detach_frames: Read the frames without sending gradients into them.
        initial_weight: Weight of a frame before training; near tokens per frame, so that counts start about right.
        neuron: "sigmoid" weighs each frame by itself, "lif" with what came before.
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
        neuron: WeightNeuron = "sigmoid",
    ) -> None:
        super().__init__()
        self.detach_frames = detach_frames
        self.project = nn.Linear(d_encoder, d_model)
        self.blocks = nn.ModuleList(
            ConformerBlock(d_model, num_heads, 2 * d_model, kernel_size) for _ in range(num_layers)
        )
        self.head = nn.Linear(d_model, 1 if neuron == "sigmoid" else _POPULATION)
        self.neurons = None if neuron == "sigmoid" else LIF(_DECAY, convention="adds")
        if neuron == "sigmoid":
            nn.init.zeros_(self.head.weight)
            nn.init.constant_(self.head.bias, math.log(initial_weight / (1 - initial_weight)))
        else:
            nn.init.normal_(self.head.weight, std=0.2 * initial_weight / d_model**0.5)  # zeros would keep them alike
            # The current that takes a membrane from 0 to its threshold in 1 / initial_weight frames.
            nn.init.constant_(self.head.bias, (1 - _DECAY) / (1 - _DECAY ** (1 / initial_weight)))

    def forward(self, encoder_out: Tensor, lens: Tensor, context: Context) -> Tensor:
        """Weigh the frames of whole utterances.

        Args:
            encoder_out: (B, T, D).
            lens: (B,) int64.
            context: What a frame may see; the encoder's.

        Returns:
            alpha: (B, T) float32, 0 to 1; past ``lens`` it means nothing.
        """
        x = self.project(encoder_out.detach() if self.detach_frames else encoder_out)
        mask = attention_mask(lens, x.shape[1], context)
        for block in self.blocks:
            x = block(x, mask)
        return self._weigh(x, lens, self._resting(x.shape[0], x.device))[0]

    def init_state(self, num_streams: int = 1) -> State:
        """Make the state of streams in which nothing was heard yet."""
        state = merged({str(i): block.init_state(num_streams) for i, block in enumerate(self._typed_blocks())})
        return state | self._resting(num_streams)

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
        lens = torch.full((x.shape[0],), x.shape[1] - ahead_frames, device=x.device)
        alpha, neurons = self._weigh(x, lens, state, ahead_frames)
        return alpha, merged(parts) | neurons

    def _resting(self, num_streams: int, device: torch.device | None = None) -> State:
        """Give the membranes before the first frame, none alike, so that the neurons take turns."""
        if self.neurons is None:
            return {}
        return {"membrane": (torch.arange(_POPULATION, device=device) / _POPULATION).repeat(num_streams, 1)}

    def _weigh(self, x: Tensor, lens: Tensor, state: State, ahead_frames: int = 0) -> tuple[Tensor, State]:
        """Weigh frames (B, n, d_model), the neurons' membrane in and out: that before the frames that come again."""
        current = self.head(x).float()
        if self.neurons is None:
            return torch.sigmoid(current.squeeze(-1)), {}
        kept, ahead = current.split([x.shape[1] - ahead_frames, ahead_frames], dim=1)
        spikes, state = self.neurons(kept, lens, state)
        spikes_ahead, _ = self.neurons(ahead, torch.full_like(lens, ahead_frames), state)
        return torch.cat([spikes, spikes_ahead], 1).mean(-1), state

    def _typed_blocks(self) -> list[ConformerBlock]:
        return [block for block in self.blocks if isinstance(block, ConformerBlock)]
