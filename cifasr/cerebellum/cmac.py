"""CMAC, the cerebellar model of Albus: a table looked up at several shifted grids at once.

An input lights one tile in each of K tilings, each shifted by one cell against the next; what lies in the K tiles is
added up. Inputs less than K cells apart share tiles, so what one teaches the other hears: the answer to a single lesson
is a triangle over 2 K cells. The tiles are the parallel fibres, the sum is the Purkinje cell, and the climbing fibre
brings the error that changes the weights.
"""

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor

_PRIME = 2**31 - 1
"""Modulus of the hash: a product of two numbers below it still fits into int64."""


class Collisions(NamedTuple):
    """What a hashed table does to the tiles that some inputs light.

    Attributes:
        num_tiles: Different tiles lit.
        num_slots: Different slots of the table that hold them; equal to ``num_tiles`` where nothing collides.
        shared: Share of the tiles that do not have their slot to themselves.
        largest: Most tiles in one slot.
        max_step: The largest ``beta`` that is stable for every input alone. 2 without collisions within an input; an
            input with two of its own tiles in one slot hears itself louder than it thinks, and this is less.
    """

    num_tiles: int
    num_slots: int
    shared: float
    largest: int
    max_step: float


@dataclass(frozen=True)
class Cmac:
    """The tilings, and where each tile's weight is kept. Weights are handed in and out: (W, O), one column an output.

    A table with a slot for each tile is the default. Hashing saves memory where there are many dimensions, but unlike
    inputs then disturb each other, and learning may diverge: look at `collisions` first.

    Attributes:
        num_cells: Cells of each dimension of the input, > 0.
        num_tilings: K, tiles that an input lights; also the width of a tile in cells.
        hash_key: None for a slot a tile. Otherwise the multiplier and the shift of a hash, as `hashed` draws them.
        table_size: W, slots of the table.

    Source:
        Albus, J. Dyn. Sys. Meas. Control 97, 1975. Convergence for 0 < beta < 2: Lin and Chiang, IEEE Trans. Neural
        Networks 8, 1997. Hash: Carter and Wegman, J. Comput. Syst. Sci. 18, 1979.
    """

    num_cells: tuple[int, ...]
    num_tilings: int
    hash_key: tuple[int, int] | None
    table_size: int

    @classmethod
    def dense(cls, num_cells: tuple[int, ...], num_tilings: int) -> "Cmac":
        """Give each tile a slot of its own.

        Raises:
            ValueError: A number is not positive.
        """
        _check_positive(num_cells=min(num_cells, default=0), num_tilings=num_tilings)
        return cls(num_cells, num_tilings, None, sum(_tiles_of(num_cells, num_tilings)))

    @classmethod
    def hashed(
        cls, num_cells: tuple[int, ...], num_tilings: int, table_size: int, generator: torch.Generator
    ) -> "Cmac":
        """Throw the tiles into ``table_size`` slots, by a hash that the generator draws.

        Raises:
            ValueError: A number is not positive, or there are 2**31 - 1 tiles or more.
        """
        _check_positive(num_cells=min(num_cells, default=0), num_tilings=num_tilings, table_size=table_size)
        if (num_tiles := sum(_tiles_of(num_cells, num_tilings))) >= _PRIME:
            raise ValueError(
                f"num_cells {num_cells} and num_tilings {num_tilings} make {num_tiles} tiles, not below 2**31 - 1"
            )
        multiplier, shift = torch.randint(1, _PRIME, (2,), generator=generator).tolist()
        return cls(num_cells, num_tilings, (multiplier, shift), table_size)

    def init_weights(self, num_outputs: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
        """Weights that know nothing: (W, O) zeros."""
        return torch.zeros(self.table_size, num_outputs, dtype=dtype)

    def quantise(self, values: Tensor, low: float, high: float) -> Tensor:
        """Cut the range from ``low`` to ``high`` into the cells of each dimension. What lies outside goes to the edge.

        Args:
            values: (B, N) float, N dimensions.
            low: Lower end of the range of every dimension.
            high: Upper end.

        Returns:
            (B, N) int64 cells.
        """
        cells = torch.tensor(self.num_cells, device=values.device)
        place = ((values - low) / (high - low) * cells).floor().long()
        return place.clamp_min(0).minimum(cells - 1)

    def tiles(self, cells: Tensor) -> Tensor:
        """Number the tiles that inputs light.

        Args:
            cells: (B, N) int64, each in [0, num_cells).

        Returns:
            (B, K) int64, different numbers for different tiles of all tilings.

        Raises:
            ValueError: A cell is not there.
        """
        shape = torch.tensor(self.num_cells, device=cells.device)
        if cells.ndim != 2 or cells.shape[1] != len(shape) or bool(((cells < 0) | (cells >= shape)).any()):
            raise ValueError(f"cells must be (B, {len(shape)}) in [0, {self.num_cells}), got {tuple(cells.shape)}")
        shift = torch.arange(self.num_tilings, device=cells.device)
        tile = (cells[:, None, :] + shift[:, None]) // self.num_tilings  # (B, K, N)
        tiles_per_side = (shape - 1 + shift[:, None]) // self.num_tilings + 1  # (K, N)
        number = torch.zeros_like(tile[..., 0])
        for dimension in range(len(shape)):
            number = number * tiles_per_side[:, dimension] + tile[..., dimension]
        tiles_before = [0, *_tiles_of(self.num_cells, self.num_tilings)[:-1]]
        return number + torch.tensor(tiles_before, device=cells.device).cumsum(0)

    def slots(self, cells: Tensor) -> Tensor:
        """Where the weights of the lit tiles are kept: (B, N) int64 cells to (B, K) int64 slots."""
        tiles = self.tiles(cells)
        if self.hash_key is None:
            return tiles
        multiplier, shift = self.hash_key
        return (tiles * multiplier + shift) % _PRIME % self.table_size

    def predict(self, weights: Tensor, cells: Tensor) -> Tensor:
        """Add up the weights of the lit tiles: (W, O) and (B, N) int64 to (B, O)."""
        return weights[self.slots(cells)].sum(1)

    def learn(self, weights: Tensor, cells: Tensor, climbing_fibre: Tensor, beta: float) -> Tensor:
        """Spread a share of the error over the lit tiles; errors of a batch are all added to the same weights.

        Args:
            weights: (W, O).
            cells: (B, N) int64.
            climbing_fibre: (B, O) wanted less given.
            beta: Share of the error to mend, in (0, 2) to converge; 1 mends it all at once.

        Returns:
            The weights after it, (W, O).
        """
        slots = self.slots(cells)
        change = (beta / self.num_tilings) * climbing_fibre[:, None, :].expand(-1, self.num_tilings, -1)
        return weights.index_add(0, slots.flatten(), change.flatten(0, 1).to(weights.dtype))

    def learn_in_turn(self, weights: Tensor, cells: Tensor, targets: Tensor, beta: float) -> Tensor:
        """Learn examples one after another, the climbing fibre being what each still gets wrong.

        Args:
            weights: (W, O).
            cells: (B, N) int64.
            targets: (B, O) what is wanted.
            beta: As for `learn`.

        Returns:
            The weights after it, (W, O).
        """
        weights = weights.clone()
        for slots, target in zip(self.slots(cells).unbind(0), targets.unbind(0), strict=True):
            climbing_fibre = target - weights[slots].sum(0)
            weights.index_add_(0, slots, (beta / self.num_tilings) * climbing_fibre.expand(self.num_tilings, -1))
        return weights

    def collisions(self, cells: Tensor) -> Collisions:
        """Count what shares a slot among the tiles that inputs light: (B, N) int64."""
        slots = self.slots(cells)
        tiles, places = self.tiles(cells).flatten().unique(return_inverse=True)  # type: ignore[no-untyped-call]
        slot_of_tile = torch.empty_like(tiles).scatter_(0, places, slots.flatten())
        crowd = slot_of_tile.unique(return_counts=True)[1]  # type: ignore[no-untyped-call]
        # Lit slots counted as often as they are lit: the sum of squares of an input's counts is at least K.
        echo = (slots[:, :, None] == slots[:, None, :]).sum((1, 2)).max()
        return Collisions(
            num_tiles=len(tiles),
            num_slots=len(crowd),
            shared=float(crowd[crowd > 1].sum() / len(tiles)),
            largest=int(crowd.max()),
            max_step=2 * self.num_tilings / float(echo),
        )


def _tiles_of(num_cells: tuple[int, ...], num_tilings: int) -> list[int]:
    """Tiles of each tiling: the one shifted by k cells has one more where the shift opens one."""
    return [prod((n - 1 + k) // num_tilings + 1 for n in num_cells) for k in range(num_tilings)]


def _check_positive(**numbers: int) -> None:
    for name, number in numbers.items():
        if number <= 0:
            raise ValueError(f"{name} must be positive, got {number}")
