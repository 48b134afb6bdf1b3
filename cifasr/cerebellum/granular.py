"""A circuit of the granular layer that swings: two granule cells, held back by a Golgi cell, read by a Purkinje cell.

Mossy fibres push the circuit. One granule cell adds up what it gets, the velocity; the other adds up the first, the
position. The Golgi cell inhibits the velocity in proportion to the position, and so the circuit swings, ``omega``
radians a step. The Purkinje cell weighs the granule cells, as the climbing fibre teaches it, and so foretells anything
that goes by the same rhythm.

As printed, the Golgi cell answers a step late, and the swing grows by exp(2 pi omega) and more a period. Answering to
the position of the moment (the symplectic map) bounds it for ever; only its period is a little off. An exact rotation
has the period as well, and is the one to compare with.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

Variant = Literal["as_printed", "symplectic", "exact_rotation"]


class GranularState(NamedTuple):
    """The circuit at one step.

    Attributes:
        position: (B,) float, the granule cell that sums the other.
        velocity: (B,) float, in positions a step, the granule cell that sums what comes in.
        golgi: (B,) float <= 0 where the position is positive: the inhibition, in velocities a step.
    """

    position: Tensor
    velocity: Tensor
    golgi: Tensor


@dataclass(frozen=True)
class GranularCircuit:
    """A swinging circuit.

    Attributes:
        omega: Radians a step, in (0, 2): at 2 the symplectic map stops swinging.
        variant: "as_printed" is the map of the source, unstable; "symplectic" is bounded, with a period of
            pi / asin(omega / 2) steps; "exact_rotation" has 2 pi / omega.

    Raises:
        ValueError: ``omega`` is out of its range, or the variant is not one of them.

    Source:
        Nurutdinov and Latypov's second-order control circuit, as reviewed (section 4.1): s' = A s with
        A = [[1, 1, 0], [0, 1, 1], [-omega ** 2, 0, 0]]. Called Hamiltonian there, though its determinant is
        -omega ** 2 and not 1. Which cell is which is our reading of it.
    """

    omega: float
    variant: Variant = "symplectic"

    def __post_init__(self) -> None:
        if not 0 < self.omega < 2:
            raise ValueError(f"omega must be in (0, 2) radians a step, got {self.omega}")
        if self.variant not in ("as_printed", "symplectic", "exact_rotation"):
            raise ValueError(f"variant must be as_printed, symplectic or exact_rotation, got {self.variant!r}")

    def init_state(self, position: Tensor, velocity: Tensor) -> GranularState:
        """Begin at a position and a velocity, twice (B,), with the inhibition that belongs to them."""
        return GranularState(position, velocity, -(self.omega**2) * position)

    def step(self, state: GranularState, mossy: Tensor) -> GranularState:
        """Go on by a step.

        Args:
            state: At the step before.
            mossy: (B,) what the mossy fibres add to the velocity.
        """
        position, velocity, golgi = state
        if self.variant == "as_printed":
            late = -(self.omega**2) * position
            return GranularState(position + velocity, velocity + golgi + mossy, late)
        if self.variant == "symplectic":
            moved = position + velocity
            golgi = -(self.omega**2) * moved
            return GranularState(moved, velocity + golgi + mossy, golgi)
        cos, sin = math.cos(self.omega), math.sin(self.omega)
        turned = cos * position + sin / self.omega * velocity
        velocity = cos * velocity - sin * self.omega * position + mossy
        return GranularState(turned, velocity, -(self.omega**2) * turned)

    def run(self, state: GranularState, mossy: Tensor) -> tuple[Tensor, GranularState]:
        """Go on by T steps.

        Args:
            state: Before the first.
            mossy: (B, T) what the mossy fibres add.

        Returns:
            The granule cells after each step, (B, T, 2) as from `granules`, and the state after the last.
        """
        seen = []
        for push in mossy.unbind(1):
            state = self.step(state, push)
            seen.append(self.granules(state))
        return torch.stack(seen, 1) if seen else mossy.new_zeros(len(mossy), 0, 2), state

    def granules(self, state: GranularState) -> Tensor:
        """What parallel fibres carry: position, and velocity over ``omega`` to be of its size, (B, 2)."""
        return torch.stack([state.position, state.velocity / self.omega], dim=-1)

    def eigenvalues(self) -> tuple[complex, ...]:
        """Eigenvalues of a step without mossy fibres, the largest imaginary part first.

        Their modulus is the growth of the swing a step, their angle its radians a step.
        """
        start = torch.eye(3, dtype=torch.float64)
        columns: tuple[Tensor, ...]
        if self.variant == "as_printed":
            columns = self.step(GranularState(*start), start.new_zeros(3))
        else:  # the inhibition is no state of its own
            columns = self.step(self.init_state(*start[:2, :2]), start.new_zeros(2))[:2]
        values: list[complex] = torch.linalg.eigvals(torch.stack(list(columns))).tolist()
        return tuple(sorted(values, key=lambda value: -value.imag))


def purkinje(weights: Tensor, granules: Tensor) -> Tensor:
    """Weigh the granule cells: (G, O) and (..., G) to (..., O)."""
    return granules @ weights


def teach_purkinje(weights: Tensor, granules: Tensor, climbing_fibre: Tensor, beta: float) -> Tensor:
    """Change the weights by a share of the error, whatever the size of the granule cells (normalised LMS).

    Args:
        weights: (G, O).
        granules: (B, G). Each row's change is added to the same weights.
        climbing_fibre: (B, O) wanted less given.
        beta: Share of the error to mend, in (0, 2) to converge.

    Returns:
        The weights after it, (G, O).
    """
    loudness = granules.square().sum(1, keepdim=True).clamp_min(torch.finfo(granules.dtype).tiny)
    return weights + beta * (granules / loudness).T @ climbing_fibre
