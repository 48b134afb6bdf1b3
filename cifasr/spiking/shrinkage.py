"""Fewer and fewer steps a frame from stage to stage: early stages spike finely, late ones cheaply."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from cifasr.spiking.lif import State
from cifasr.spiking.tdbn import TdBN

Schedule = tuple[int, ...]  # steps a frame of each stage, never more than the stage before


def mean_pooling(num_in: int, num_out: int) -> Tensor:
    """Give the mixture that pools evenly, (num_out, num_in): each new step is the mean of the old ones it covers."""
    start = torch.arange(num_out)[:, None] * num_in / num_out
    covered = torch.minimum(start + num_in / num_out, torch.arange(1, num_in + 1)) - torch.maximum(
        start, torch.arange(num_in)
    )
    return covered.clamp(min=0) * num_out / num_in


class TemporalTransformer(nn.Module):
    """Turn ``num_in`` steps of each frame into ``num_out``, each a learned mixture of the frame's old steps.

    What comes out is no longer 0 or 1. A linear layer behind it may as well be in front of it, up to its bias, where
    it hears spikes. It starts as `mean_pooling`; of as many steps as before it makes nothing else. No frame hears of
    another, so a stream may be cut between frames.

    Args:
        num_in: Steps of a frame before.
        num_out: Steps of a frame after, 1 to ``num_in``.

    Raises:
        ValueError: A number is not as above.

    Source:
        Ding et al., "Shrinking Your TimeStep", AAAI 2024, arXiv:2401.01912: its temporal transformer in its plainest
        form, one mixture for all channels.
    """

    def __init__(self, num_in: int, num_out: int) -> None:
        super().__init__()
        if not 1 <= num_out <= num_in:
            raise ValueError(f"num_out: got {num_out}, wanted 1 to num_in, {num_in}: steps shrink")
        self.num_in, self.num_out = num_in, num_out
        self.mixture = None if num_in == num_out else nn.Parameter(mean_pooling(num_in, num_out))

    def forward(self, spikes: Tensor) -> Tensor:
        """Mix steps: (B, T * num_in, D) to (B, T * num_out, D), frames in their order."""
        if self.mixture is None:
            return spikes
        B, _, D = spikes.shape
        return (self.mixture @ spikes.view(B, -1, self.num_in, D)).view(B, -1, D)

    def extra_repr(self) -> str:
        """Say the settings in the module's print."""
        return f"{self.num_in}, {self.num_out}"


class SpikingStage(nn.Module):
    """A linear layer, `TdBN`, and neurons.

    Args:
        width_in: Channels heard.
        width: Neurons.
        neurons: A layer of this package, of ``width`` where it asks for one, with a threshold of 1.
    """

    def __init__(self, width_in: int, width: int, neurons: nn.Module) -> None:
        super().__init__()
        self.linear, self.norm, self.neurons = nn.Linear(width_in, width), TdBN(width), neurons

    def forward(self, x: Tensor, input_lens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Hear (B, T, width_in); give spikes, (B, T, width), and the state, as the layers of this package do."""
        return cast(tuple[Tensor, State], self.neurons(self.norm(self.linear(x), input_lens), input_lens, state))


class ShrinkingOutput(NamedTuple):
    """What a network gives.

    Attributes:
        logits: (B, num_classes) of each classifier that was asked, the last stage's last.
        spikes: (B, T * steps, D) of each stage.
    """

    logits: list[Tensor]
    spikes: list[Tensor]


class ShrinkingNetwork(nn.Module):
    """A classifier of sequences whose stages have fewer steps a frame the later they are.

    Each stage has a classifier of its mean rates. Those before the last are asked while training only, so that early
    stages hear of the target by a short way. One set of weights runs under every schedule that it is made for, if a
    schedule is drawn for each batch: the stages are shared, and each pair of numbers of steps has its mixture.

    Args:
        stages: Of the form of `SpikingStage`.
        widths: Neurons of each stage.
        num_classes: Classes.
        schedules: That it will run under, such as ``[(4, 2, 1), (1, 1, 1)]``.

    Raises:
        ValueError: A schedule has not a number for each stage, or grows.

    Source:
        As for `TemporalTransformer`. There frames are pictures and steps are all the time there is.
    """

    def __init__(
        self, stages: Sequence[nn.Module], widths: Sequence[int], num_classes: int, schedules: Sequence[Schedule]
    ) -> None:
        super().__init__()
        for schedule in schedules:
            if len(schedule) != len(stages):
                raise ValueError(f"schedules: got {schedule} for {len(stages)} stages, wanted a number for each")
        self.schedules = [tuple(schedule) for schedule in schedules]
        self.stages = nn.ModuleList(stages)
        self.classifiers = nn.ModuleList(nn.Linear(width, num_classes) for width in widths)
        self.transformers = nn.ModuleList(
            nn.ModuleDict({_key(*pair): TemporalTransformer(*pair) for pair in sorted(set(pairs))})
            for pairs in zip(*(pairwise(schedule) for schedule in schedules), strict=True)
        )

    def forward(self, feats: Tensor, feat_lens: Tensor, schedule: Schedule) -> ShrinkingOutput:
        """Classify.

        Args:
            feats: (B, T, F): each frame is heard for as many steps as the first stage has.
            feat_lens: (B,) int64, 1 to T. Frames past it change nothing.
            schedule: One of the network's.

        Returns:
            See `ShrinkingOutput`.

        Raises:
            ValueError: The schedule is none of them.
        """
        if schedule not in self.schedules:
            raise ValueError(f"schedule: got {schedule}, wanted one of {self.schedules}")
        x, logits, outputs = feats.repeat_interleave(schedule[0], 1), [], []
        for i, num_steps in enumerate(schedule):
            lens = num_steps * feat_lens
            spikes, _ = self.stages[i](x, lens)
            outputs.append(spikes)
            if self.training or i == len(schedule) - 1:
                logits.append(self.classifiers[i](spikes.sum(1) / lens[:, None]))
            if i < len(schedule) - 1:
                mixtures = cast(nn.ModuleDict, self.transformers[i])
                x = mixtures[_key(num_steps, schedule[i + 1])](spikes)
        return ShrinkingOutput(logits, outputs)


def average_steps(schedule: Schedule) -> float:
    """Give a schedule's mean number of steps a frame, over stages."""
    return sum(schedule) / len(schedule)


def synaptic_operations(spikes: Sequence[Tensor], fan_outs: Sequence[int]) -> Tensor:
    """Count additions: each spike is heard once by every neuron that it reaches.

    It is the sum over layers of rate, neurons, fan-out and steps. Mixtures and the first layer, which hears numbers
    and no spikes, are not in it.

    Args:
        spikes: (B, T, D) of each layer, whatever T.
        fan_outs: Neurons that one of each layer reaches.

    Returns:
        (B,) additions of each row.
    """
    return torch.stack([fan_out * (x != 0).sum((1, 2)) for x, fan_out in zip(spikes, fan_outs, strict=True)]).sum(0)


def _key(num_in: int, num_out: int) -> str:
    return f"{num_in}to{num_out}"
