"""Surrogate gradients: what the backward pass takes for the derivative of a spike, which is zero almost everywhere.

Each is a bump over ``above``, the membrane before reset minus the threshold, in the membrane's own unit. It is 1 at
the threshold for the default parameters, and its area is 1, but for `FastSigmoid`, whose peak is 1 for every slope.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class ATan:
    """The derivative of an arc tangent: ``slope / 2 / (1 + (pi / 2 * slope * above)**2)``. Its tails are heavy.

    Attributes:
        slope: > 0, twice the peak.

    Source:
        Fang et al., ICCV 2021, arXiv:2007.05785; slope 2 is the default of SpikingJelly and snnTorch.
    """

    slope: float = 2.0

    def __post_init__(self) -> None:
        _check_positive("ATan.slope", self.slope)

    def derivative(self, above: Tensor) -> Tensor:
        """Give the derivative at ``above``, any shape, any float dtype."""
        return self.slope / 2 / (1 + (math.pi / 2 * self.slope * above).square())


@dataclass(frozen=True)
class Sigmoid:
    """The derivative of a logistic curve: ``slope * y * (1 - y)`` with ``y = sigmoid(slope * above)``.

    Attributes:
        slope: > 0, four times the peak.

    Source:
        Wu et al., Frontiers in Neuroscience 2018, 10.3389/fnins.2018.00331, window h3, whose ``a3`` is ``1 / slope``;
        slope 4 is the default of SpikingJelly.
    """

    slope: float = 4.0

    def __post_init__(self) -> None:
        _check_positive("Sigmoid.slope", self.slope)

    def derivative(self, above: Tensor) -> Tensor:
        """Give the derivative at ``above``, any shape, any float dtype."""
        y = (self.slope * above).sigmoid()
        return self.slope * y * (1 - y)


@dataclass(frozen=True)
class FastSigmoid:
    """The derivative of ``x / (1 + slope * |x|)``: ``1 / (1 + slope * |above|)**2``. Sharp, with heavy tails.

    Attributes:
        slope: > 0, how fast it falls; the peak is 1.

    Source:
        Zenke and Ganguli (SuperSpike), Neural Computation 2018, arXiv:1705.11146; slope 25 is the default of
        snnTorch.
    """

    slope: float = 25.0

    def __post_init__(self) -> None:
        _check_positive("FastSigmoid.slope", self.slope)

    def derivative(self, above: Tensor) -> Tensor:
        """Give the derivative at ``above``, any shape, any float dtype."""
        return (1 + self.slope * above.abs()).square().reciprocal()


@dataclass(frozen=True)
class Rect:
    """A window: ``1 / width`` where ``|above| < width / 2``, else 0. The cheapest, and blind far from the threshold.

    Attributes:
        width: > 0.

    Source:
        Wu et al., Frontiers in Neuroscience 2018, 10.3389/fnins.2018.00331, window h1, whose ``a1`` is ``width``.
    """

    width: float = 1.0

    def __post_init__(self) -> None:
        _check_positive("Rect.width", self.width)

    def derivative(self, above: Tensor) -> Tensor:
        """Give the derivative at ``above``, any shape, any float dtype."""
        return torch.where(above.abs() < self.width / 2, 1 / self.width, torch.zeros_like(above))


Surrogate = ATan | Sigmoid | FastSigmoid | Rect


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name}: got {value}, wanted a finite number > 0")
