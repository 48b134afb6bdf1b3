"""What every encoder is: features to frames, whole under a chunk mask or step by step with the same numbers."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cifasr.audio.fbank import SILENCE_FEATURE
from cifasr.nn.context import Context, attention_mask
from cifasr.nn.state import State, merged, scoped


class EncoderBlock(nn.Module):
    """One layer of an encoder, with a form for whole utterances and a form for streams."""

    @abstractmethod
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Run on whole utterances.

        Args:
            x: (B, T, D).
            mask: (B, 1, T, T), see `attention_mask`.
        """

    @abstractmethod
    def init_state(self, num_streams: int) -> State:
        """Make the state of streams in which nothing was heard yet."""

    @abstractmethod
    def step(self, x: Tensor, state: State, left_frames: int | None, ahead_frames: int = 0) -> tuple[Tensor, State]:
        """Run on the next chunk of a stream.

        Args:
            x: (B, n, D), the chunk.
            state: From `init_state` or the last step.
            left_frames: How much of the past the next chunk may see; None for all.
            ahead_frames: How many of the n are future that comes again with the next chunk: seen now, and not kept.
        """


class Encoder(nn.Module):
    """Base of the encoders: what differs is how features become the first layer's input, and the layers.

    Attributes:
        d_model: Width of a frame.
        subsampling: Feature frames (10 ms) per encoder frame.
        left_feats: Feature frames before a chunk that its first frame needs.
        right_feats: Feature frames past a chunk that its last frame waits for.
        blocks: The layers.
        final_norm: After the last layer.
    """

    d_model: int
    subsampling: int
    left_feats: int
    right_feats: int
    blocks: nn.ModuleList
    final_norm: nn.Module

    @abstractmethod
    def embed(self, feats: Tensor, first_frame: Tensor) -> Tensor:
        """Turn features into the first layer's input.

        Args:
            feats: (B, left_feats + n * subsampling + right_feats, F).
            first_frame: () or (B, 1) int64, place of the first of the n frames in its stream.

        Returns:
            (B, n, D).
        """

    def forward(
        self, feats: Tensor, feat_lens: Tensor, context: Context, first_frame: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode whole utterances.

        Args:
            feats: (B, T, F).
            feat_lens: (B,) int64. Features past them count for nothing.
            context: What a frame may see.
            first_frame: (B, 1) int64, place of each utterance's first frame in an imagined stream; None for 0.

        Returns:
            encoder_out: (B, ceil(T / subsampling), D).
            encoder_out_lens: (B,) int64, ceil(feat_lens / subsampling).
        """
        lens = torch.div(feat_lens + self.subsampling - 1, self.subsampling, rounding_mode="floor")
        num_frames = -(-feats.shape[1] // self.subsampling)
        past_end = torch.arange(feats.shape[1], device=feats.device) >= feat_lens[:, None]
        feats = feats.masked_fill(past_end[..., None], SILENCE_FEATURE)
        right = num_frames * self.subsampling - feats.shape[1] + self.right_feats
        feats = F.pad(feats, (0, 0, self.left_feats, right), value=SILENCE_FEATURE)
        x = self.embed(feats, torch.zeros((), dtype=torch.int64) if first_frame is None else first_frame)
        mask = attention_mask(lens, num_frames, context)
        for block in self.blocks:
            x = block(x, mask)
        output: Tensor = self.final_norm(x)
        return output, lens

    def init_state(self, num_streams: int = 1) -> State:
        """Make the state of streams in which nothing was heard yet."""
        parts = {str(i): block.init_state(num_streams) for i, block in enumerate(self._encoder_blocks())}
        return merged(parts) | {"num_frames": torch.zeros((), dtype=torch.int64)}

    def step(self, feats: Tensor, state: State, left_frames: int | None, ahead_frames: int = 0) -> tuple[Tensor, State]:
        """Encode the next chunk of streams that move together.

        Args:
            feats: (B, left_feats + n * subsampling + right_feats, F): the chunk with what it needs around it.
            state: From `init_state` or the last step.
            left_frames: How much of the past a frame may see; None for all.
            ahead_frames: How many of the n are future that comes again with the next chunk: seen now, and not kept.

        Returns:
            encoder_out: (B, n, D).
            state: For the next step.
        """
        x = self.embed(feats, state["num_frames"])
        parts = {}
        for i, block in enumerate(self._encoder_blocks()):
            x, parts[str(i)] = block.step(x, scoped(state, str(i)), left_frames, ahead_frames)
        output: Tensor = self.final_norm(x)
        return output, merged(parts) | {"num_frames": state["num_frames"] + x.shape[1] - ahead_frames}

    def _encoder_blocks(self) -> list[EncoderBlock]:
        return [block for block in self.blocks if isinstance(block, EncoderBlock)]
