"""Muscle synergies: many muscles moved by few commands, and the commands found from the goal.

Muscles are not driven one by one. A *phasic* synergy is a burst over all muscles that is played at some time with some
strength; a *tonic* one is a posture that is held. A few of them make up every movement, so a movement is a handful of
coefficients; radial basis functions say which ones reach a goal, from goals that were reached before.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cifasr.cerebellum.forward_model import ridge


def compose(phasic: Tensor, strengths: Tensor, onsets: Tensor, tonic: Tensor, num_steps: int) -> Tensor:
    """Play synergies: ``activity(t) = sum_i strengths[i] * phasic[i](t - onsets[i]) + tonic``.

    Args:
        phasic: (R, M, L) bursts over M muscles, L steps long.
        strengths: (R,).
        onsets: (R,) int64 steps, >= 0; what lasts past the end is cut off.
        tonic: (M,) held all the time.
        num_steps: T.

    Returns:
        (M, T) activity.

    Source:
        d'Avella, Saltiel and Bizzi, Nature Neuroscience 6, 2003; with a tonic part as in Chen and Qiao.
    """
    activity = tonic[:, None].repeat(1, num_steps)
    for burst, strength, onset in zip(phasic, strengths, onsets.tolist(), strict=True):
        length = max(0, min(burst.shape[1], num_steps - onset))
        activity[:, onset : onset + length] += strength * burst[:, :length]
    return activity


def variance_accounted_for(activity: Tensor, rebuilt: Tensor) -> float:
    """Compare two activities of one shape: 1 for the same, 0 for none; squares are about zero, not about the mean."""
    return float(1 - (activity - rebuilt).square().sum() / activity.square().sum())


def num_synergies(activity: Tensor, wanted: float = 0.95) -> int:
    """Say how many synergies, by singular values, account for more than a share ``wanted`` of an activity (M, T)."""
    power = torch.linalg.svdvals(activity).square()
    return int((power.cumsum(0) / power.sum() <= wanted).sum()) + 1


def factorise(activity: Tensor, rank: int, generator: torch.Generator, num_rounds: int = 500) -> tuple[Tensor, Tensor]:
    """Find synergies that, like muscles, never pull the wrong way.

    Args:
        activity: (M, T), >= 0.
        rank: R, synergies to find.
        generator: Draws the start; another start may find others.
        num_rounds: Rounds of multiplicative updates, none of which makes the squared error larger.

    Returns:
        (M, R) synergies of length 1, and (R, T) how strongly each is played, both >= 0.

    Raises:
        ValueError: An activity is negative.

    Source:
        Lee and Seung, Nature 401, 1999, and NIPS 2000.
    """
    if bool((activity < 0).any()):
        raise ValueError(f"activity must be at least 0, got {float(activity.min()):g}")
    tiny = torch.finfo(activity.dtype).tiny
    synergies = torch.rand(activity.shape[0], rank, generator=generator, dtype=activity.dtype)
    played = torch.rand(rank, activity.shape[1], generator=generator, dtype=activity.dtype)
    for _ in range(num_rounds):
        played = played * (synergies.T @ activity) / (synergies.T @ synergies @ played + tiny)
        synergies = synergies * (activity @ played.T) / (synergies @ (played @ played.T) + tiny)
    length = synergies.norm(dim=0).clamp_min(tiny)
    return synergies / length, played * length[:, None]


@dataclass(frozen=True)
class GoalMap:
    """Radial basis functions from goals to coefficients, exact at the goals that it was made from.

    Attributes:
        centres: (C, D) goals.
        weights: (C, O).
        width: Standard deviation of the Gaussian around each centre.

    Source:
        Broomhead and Lowe, Complex Systems 2, 1988.
    """

    centres: Tensor
    weights: Tensor
    width: float

    @classmethod
    def through(cls, goals: Tensor, coefficients: Tensor, width: float) -> "GoalMap":
        """Lay a map through goals (C, D), all different, and the coefficients (C, O) that reached them."""
        empty = cls(goals, coefficients, width)
        return cls(goals, ridge(empty.basis(goals), coefficients, 0.0), width)

    def basis(self, goals: Tensor) -> Tensor:
        """How near goals (B, D) are to each centre: (B, C), from 1 at the centre down to 0."""
        return torch.exp(-0.5 * (torch.cdist(goals, self.centres) / self.width).square())

    def coefficients(self, goals: Tensor) -> Tensor:
        """Say how to reach goals: (B, D) to (B, O)."""
        return self.basis(goals) @ self.weights
