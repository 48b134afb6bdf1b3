"""Features at 10 ms to frames at 80 ms."""

import torch.nn.functional as F
from torch import Tensor, nn


class Subsampling(nn.Module):
    """Three causal convolutions of stride 2, the later two depthwise-separable, then a projection.

    In time each output sees the frame pair it stands for and one frame before, so that a chunk of whole 80 ms frames
    needs nothing past its end.

    Args:
        num_mels: F, bins of a feature frame.
        d_model: Width of the output.
        num_channels: Channels of the convolutions.

    Source:
        Rekesh et al. 2023 (Fast Conformer), arXiv:2305.05084, section 2.1; here causal in time.
    """

    factor = 8
    left_feats = 8
    """One output frame more than is asked for is computed and dropped: it holds the past the others need."""

    def __init__(self, num_mels: int, d_model: int, num_channels: int = 128) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, num_channels, kernel_size=3, stride=2)
        self.depthwise = nn.ModuleList(
            nn.Conv2d(num_channels, num_channels, kernel_size=3, stride=2, groups=num_channels) for _ in range(2)
        )
        self.pointwise = nn.ModuleList(nn.Conv2d(num_channels, num_channels, kernel_size=1) for _ in range(2))
        num_bins = num_mels
        for _ in range(3):
            num_bins = (num_bins + 1) // 2
        self.project = nn.Linear(num_channels * num_bins, d_model)
        # By default what differs between frames starts at a tenth of what does not, and the blocks hear a constant.
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, feats: Tensor) -> Tensor:
        """Subsample.

        Args:
            feats: (B, 8 + 8 * n, F), the first 8 being the past.

        Returns:
            (B, n, D).
        """
        x = F.relu(self.first(_pad(feats[:, None])))  # (B, C, T / 2, F / 2)
        for depthwise, pointwise in zip(self.depthwise, self.pointwise, strict=True):
            x = F.relu(pointwise(depthwise(_pad(x))))
        output: Tensor = self.project(x.transpose(1, 2).flatten(2))
        return output[:, 1:]


def _pad(x: Tensor) -> Tensor:
    """Pad bins on both sides, time only before: output ``j`` then sees frames ``2j - 1``, ``2j`` and ``2j + 1``."""
    return F.pad(x, (1, 1, 1, 0))
