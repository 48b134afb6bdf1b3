"""The mushroom body of the fly: inputs spread over many cells of which few answer, and dopamine that marks them.

Each Kenyon cell adds up a few inputs, drawn once for ever. One inhibitory cell lets only the loudest few answer: the
tag of the input. Alike inputs share a part of their tags, others next to nothing. An output cell hears every Kenyon
cell; dopamine that comes with a tag depresses the synapses of that tag and that output, so that a single lesson makes
an input known, and what is not refreshed recovers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class MushroomBody:
    """The wiring. Weights are handed in and out: (M, O), a column for each output cell, 1 at rest and 0 depressed.

    One column for each thing to be known stays readable with thousands of them. One column for all of them does not:
    after n lessons a share 1 - (1 - a) ** n of it is depressed, a being the share of cells in a tag.

    Attributes:
        claws: (M, C) int64, the inputs of each of M Kenyon cells, without repeats.
        num_inputs: N, projection neurons.
        num_active: Cells in a tag.

    Source:
        Dasgupta, Stevens and Navlakha, Science 358, 2017: 50 inputs, 2000 cells of 6 claws, 5 % active; Caron et al.,
        Nature 497, 2013, count about seven. Dopamine: Aso et al., eLife 3:e04577, 2014; that it depresses: Hige et
        al., Neuron 88, 2015. Inputs need no centring: each cell has as many claws as the next, so that a
        constant added to all inputs changes no tag.
    """

    claws: Tensor
    num_inputs: int
    num_active: int

    @classmethod
    def grow(
        cls,
        generator: torch.Generator,
        *,
        num_inputs: int = 50,
        num_cells: int = 2000,
        num_claws: int = 6,
        num_active: int = 100,
    ) -> "MushroomBody":
        """Draw the claws. The defaults are the fly's.

        Raises:
            ValueError: There are more claws than inputs, or more active cells than cells, or none.
        """
        for name, number, most in (("num_claws", num_claws, num_inputs), ("num_active", num_active, num_cells)):
            if not 0 < number <= most:
                raise ValueError(f"{name} must be in [1, {most}], got {number}")
        lots = torch.rand(num_cells, num_inputs, generator=generator)
        return cls(lots.topk(num_claws, dim=1).indices, num_inputs, num_active)

    def tag(self, inputs: Tensor) -> Tensor:
        """Find the Kenyon cells that answer, the loudest first: (B, N) float to (B, k) int64.

        Raises:
            ValueError: ``inputs`` has another width than the wiring.
        """
        if inputs.ndim != 2 or inputs.shape[1] != self.num_inputs:
            raise ValueError(f"inputs must be (B, {self.num_inputs}), got {tuple(inputs.shape)}")
        drive = inputs[:, self.claws].sum(-1)  # (B, M)
        return drive.topk(self.num_active, dim=1).indices

    def overlap(self, tags: Tensor, others: Tensor) -> Tensor:
        """Share of cells that two tags have in common: twice (B, k) int64 to (B,) float32 in [0, 1]."""
        return self._lit(tags, torch.float32).gather(1, others).mean(1)

    def init_weights(self, num_outputs: int, dtype: torch.dtype = torch.float32) -> Tensor:
        """Weights that know nothing: (M, O) ones."""
        return torch.ones(len(self.claws), num_outputs, dtype=dtype)

    def respond(self, weights: Tensor, tags: Tensor) -> Tensor:
        """Hear the tags: (M, O) and (B, k) int64 to (B, O), 1 where nothing is known and 0 where all is."""
        return self._lit(tags, weights.dtype) @ weights / self.num_active

    def depress(self, weights: Tensor, tags: Tensor, dopamine: Tensor, rate: float = 1.0) -> Tensor:
        """Learn: ``w <- w * (1 - rate * dopamine * active)``, for one tag after another; their order does not matter.

        Args:
            weights: (M, O).
            tags: (B, k) int64.
            dopamine: (B, O) in [0, 1], the teaching signal of each output; elsewhere than in its column nothing is
                learnt.
            rate: In [0, 1]; 1 learns from a single lesson.

        Returns:
            The weights after it, (M, O).
        """
        kept = (1 - rate * dopamine)[:, None, :].expand(-1, self.num_active, -1)  # (B, k, O)
        rows = tags.flatten()[:, None].expand(-1, weights.shape[1])
        return weights.scatter_reduce(0, rows, kept.flatten(0, 1).to(weights.dtype), "prod")

    def recover(self, weights: Tensor, time_constant: float, num_steps: int = 1) -> Tensor:
        """Forget: ``w <- w + (1 - w) / time_constant``, as often as ``num_steps`` says.

        Args:
            weights: (M, O).
            time_constant: In steps, >= 1.
            num_steps: Steps that pass.

        Returns:
            The weights after it, (M, O).

        Raises:
            ValueError: ``time_constant`` is below 1.
        """
        if time_constant < 1:
            raise ValueError(f"time_constant must be at least 1 step, got {time_constant}")
        depression: Tensor = (1 - weights) * (1 - 1 / time_constant) ** num_steps
        return 1 - depression

    def _lit(self, tags: Tensor, dtype: torch.dtype) -> Tensor:
        """Tags as zeros and ones over the cells: (B, M)."""
        return torch.zeros(len(tags), len(self.claws), dtype=dtype, device=tags.device).scatter_(1, tags, 1.0)
