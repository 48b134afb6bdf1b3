import pytest
import torch

from cifasr.ops.cif import cif

pytest.importorskip("sinabs", reason="needs sinabs: see tests/oracles/README.md")

from sinabs.layers import IAF


def test_a_frame_heavier_than_the_threshold_fires_as_often_as_their_multi_spike(compared):
    alpha = torch.randint(0, 3 * 2**18, (8, 300)) / 2**18  # up to three thresholds a frame, sums exact

    out = cif(torch.zeros(8, 300, 1), torch.full((8,), 300), alpha)
    with torch.no_grad():
        spikes = IAF()(alpha[..., None])[..., 0]  # (B, T) whole numbers
    ours = torch.zeros(8, 300)
    for row, num_tokens in enumerate(out.token_lens.tolist()):
        ours[row].index_add_(0, out.fire_frames[row, :num_tokens], torch.ones(num_tokens))

    compared("sinabs", "CIF above 1 and MultiSpike: firings", int(ours.sum()), int(spikes.sum()))
    assert spikes.max() >= 3
    assert torch.equal(ours, spikes)
