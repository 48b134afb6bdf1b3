"""Dopamine as a distribution: cells that learn how large rewards are, each with its own mixture of hope and fear.

A cell is told how much better the reward was than it foretold. One that heeds good news more than bad foretells much,
one that heeds bad news foretells little; together they know not only the mean of the rewards but their distribution.
Heeding the size of the news makes expectiles, heeding only its sign makes quantiles.
"""

from typing import Literal

import torch
from torch import Tensor

Rule = Literal["expectile", "quantile"]


def prediction_errors(values: Tensor, rewards: Tensor) -> Tensor:
    """How much better the reward was than each cell foretold: (B, C) and (B,) to (B, C)."""
    return rewards[:, None] - values


def learn(values: Tensor, errors: Tensor, taus: Tensor, *, rule: Rule, step: float) -> Tensor:
    """Move what the cells foretell.

    With ``a+ = step * tau`` and ``a- = step * (1 - tau)``, an expectile moves by ``a+`` or ``a-`` times the error, as
    this is above or below zero; a quantile moves by ``a+`` or ``-a-``. Where it comes to rest, the reversal point of
    the cell, is the expectile or quantile ``tau`` of the rewards.

    Args:
        values: (B, C) what each cell foretells, in units of reward.
        errors: (B, C) from `prediction_errors`: the teaching signal.
        taus: (C,) ``a+ / (a+ + a-)`` of each cell, in (0, 1); 0.5 is neutral.
        rule: "expectile" or "quantile".
        step: Of (0, 1] for expectiles, in units of reward for quantiles.

    Returns:
        The values after it, (B, C).

    Raises:
        ValueError: The rule is not one of them.

    Source:
        Dabney et al., Nature 577, 2020. Quantiles: Dabney et al., AAAI 2018, arXiv:1710.10044.
    """
    if rule not in ("expectile", "quantile"):
        raise ValueError(f"rule must be expectile or quantile, got {rule!r}")
    news = errors if rule == "expectile" else errors.sign()
    return values + step * torch.where(errors > 0, taus, 1 - taus) * news


def learn_in_turn(values: Tensor, rewards: Tensor, taus: Tensor, *, rule: Rule, step: float) -> tuple[Tensor, Tensor]:
    """Learn from rewards one after another.

    A constant step never settles: the last values go on to tremble by the square root of ``step``. Their mean over
    the second half of the rewards trembles less, and is what to read.

    Args:
        values: (B, C).
        rewards: (B, T), at least one.
        taus: (C,).
        rule: As for `learn`.
        step: As for `learn`.

    Returns:
        The last values and the mean of those of the second half, twice (B, C).
    """
    num_rewards, tail = rewards.shape[1], torch.zeros_like(values)
    for time, reward in enumerate(rewards.unbind(1)):
        values = learn(values, prediction_errors(values, reward), taus, rule=rule, step=step)
        if time >= num_rewards // 2:
            tail = tail + values
    return values, tail / (num_rewards - num_rewards // 2)


def expectiles(samples: Tensor, taus: Tensor) -> Tensor:
    """Compute expectiles: the ``v`` with ``tau * mean of (x - v) above it = (1 - tau) * mean of (v - x) below it``.

    Args:
        samples: (B, S) rewards.
        taus: (C,) in (0, 1).

    Returns:
        (B, C). For ``tau`` 0.5 it is the mean.
    """
    values = samples.mean(1, keepdim=True).expand(-1, len(taus))
    while True:  # each round solves the equation with the sides as they are; these change finitely often
        weights = torch.where(samples[:, :, None] > values[:, None, :], taus, 1 - taus)  # (B, S, C)
        moved = (weights * samples[:, :, None]).sum(1) / weights.sum(1)
        if torch.allclose(moved, values, rtol=0, atol=4 * torch.finfo(values.dtype).eps * float(samples.abs().max())):
            return moved
        values = moved
