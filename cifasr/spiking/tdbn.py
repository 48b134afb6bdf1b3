"""Batch normalisation that knows the threshold behind it, so that a deep spiking network starts to fire at all."""

import torch
from torch import Tensor, nn

from cifasr.lengths import padding_mask


class TdBN(nn.Module):
    """Threshold-dependent batch normalisation: each channel comes out as wide as the threshold behind it.

    ::

        y = weight * scale * threshold * (x - mean) / sqrt(variance + eps) + bias

    While training, mean and variance are those of the batch, over all its valid steps and none of its padding, and a
    running mean of them is kept. In evaluation the running ones are used, so that no step hears of another and a
    stream gives what the whole gives; then `fold` makes it a part of the linear layer in front. In a distributed run
    each process has statistics of its own.

    Args:
        width: Channels: D.
        threshold: Of the neurons that read it, > 0.
        scale: Paper's alpha: 1, or ``1 / sqrt(n)`` where n such layers are added, as in a residual block: there
            ``0.5 ** 0.5``.
        eps: Added to the variance, > 0.
        momentum: Part of the running statistics that a batch replaces, 0 to 1.

    Raises:
        ValueError: A number is out of its range.

    Source:
        Zheng et al., AAAI 2021, arXiv:2011.05280. The review (J. Hu) calls it better than all before; it was the best
        of the directly trained with few steps, and below networks that were converted.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, width: int, *, threshold: float = 1.0, scale: float = 1.0, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__()
        for name, value in (("threshold", threshold), ("scale", scale), ("eps", eps)):
            if not value > 0:
                raise ValueError(f"{name}: got {value}, wanted > 0")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum: got {momentum}, wanted 0 to 1")
        self.gain, self.eps, self.momentum = scale * threshold, eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor, input_lens: Tensor) -> Tensor:
        """Normalise the channels of a batch.

        Args:
            x: (B, T, D) float.
            input_lens: (B,) int64, 0 to T. What is past it changes nothing.

        Returns:
            (B, T, D) in the dtype of ``x``; past ``input_lens`` it means nothing.
        """
        padding = padding_mask(input_lens, x.shape[1])[..., None]  # (B, T, 1)
        heard = x.to(self.weight.dtype).masked_fill(padding, 0)
        mean, variance = self._batch_statistics(heard, padding) if self.training else self._running_statistics()
        slope = self.weight * self.gain * torch.rsqrt(variance + self.eps)
        return ((heard - mean) * slope + self.bias).to(x.dtype)

    def fold(self, linear: nn.Linear) -> nn.Linear:
        """Make one linear layer of the one in front and this one, as it is in evaluation.

        Args:
            linear: The layer whose output is normalised: (..., D).

        Returns:
            A new layer with a bias, on its own memory.

        Raises:
            ValueError: The layer in front gives another number of channels.
        """
        if linear.out_features != len(self.weight):
            raise ValueError(f"linear: got {linear.out_features} features out, wanted {len(self.weight)}")
        folded = nn.Linear(linear.in_features, linear.out_features)
        mean, variance = self._running_statistics()
        slope = self.weight * self.gain * torch.rsqrt(variance + self.eps)
        before = torch.zeros_like(mean) if linear.bias is None else linear.bias
        folded.weight = nn.Parameter((linear.weight * slope[:, None]).detach())
        folded.bias = nn.Parameter(((before - mean) * slope + self.bias).detach())
        return folded

    def _running_statistics(self) -> tuple[Tensor, Tensor]:
        return self.running_mean, self.running_var

    def _batch_statistics(self, heard: Tensor, padding: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and variance over valid steps, (D,) each, and keep them; one step has no variance to keep."""
        count = (~padding).sum()
        mean = heard.sum((0, 1)) / count.clamp(min=1)
        variance = (heard - mean).masked_fill(padding, 0).square().sum((0, 1)) / count.clamp(min=1)
        with torch.no_grad():
            replaced = self.momentum * (count > 1)
            unbiased = variance * count / (count - 1).clamp(min=1)
            self.running_mean += replaced * (mean - self.running_mean)
            self.running_var += replaced * (unbiased - self.running_var)
        return mean, variance

    def extra_repr(self) -> str:
        """Say the settings in the module's print."""
        return f"{len(self.weight)}, gain={self.gain:.4g}, momentum={self.momentum}"
