"""Reference values: ../shared/design/spiking_cerebellum.md, section 1.9."""

import pytest
import torch
from torch import nn

from cifasr.spiking.lif import LIF
from cifasr.spiking.tdbn import TdBN


def trained(width=4, **settings):
    """A layer that has seen some batches and learned something."""
    layer = TdBN(width, **settings)
    for _ in range(5):
        layer(3 * torch.randn(2, 9, width) + 1, torch.tensor([9, 6]))
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    return layer.eval()


@pytest.mark.parametrize(("threshold", "scale", "std"), [(1.0, 1.0, 1.000), (0.5, 2**-0.5, 0.353553)])
def test_a_channel_comes_out_as_wide_as_the_threshold_times_the_scale(threshold, scale, std):
    layer = TdBN(3, threshold=threshold, scale=scale)

    y = layer(5 * torch.randn(4, 50, 3) - 7, torch.full((4,), 50))

    assert y.std((0, 1), correction=0).tolist() == pytest.approx([std] * 3, abs=5e-6)
    assert y.mean((0, 1)).tolist() == pytest.approx([0] * 3, abs=1e-5)


def test_of_neurons_behind_it_one_in_six_fires_in_the_first_step():
    quantiles = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    x = 3 + 2 * torch.special.ndtri(quantiles)
    y = TdBN(1, threshold=0.7).double()(x[:, None, None], torch.ones(100_000, dtype=torch.int64))

    spikes, _ = LIF(0.5, convention="adds", threshold=0.7)(y, torch.ones(100_000, dtype=torch.int64))

    assert spikes.mean().item() == pytest.approx(0.158655, abs=1.5e-5)


def test_it_is_batch_normalisation_of_the_valid_steps_alone():
    lens, x = torch.tensor([7, 3]), 2 * torch.randn(2, 7, 4, dtype=torch.float64) + 1
    x[1, 3:] = torch.nan
    valid = torch.cat([x[0], x[1, :3]]).requires_grad_()
    layer, oracle = TdBN(4, threshold=0.6, momentum=0.3).double(), nn.BatchNorm1d(4, momentum=0.3).double()
    nn.init.constant_(oracle.weight, 0.6)

    x.requires_grad_()
    y, want = layer(x, lens), oracle(valid)
    got_rows = torch.cat([y[0], y[1, :3]])
    dy = torch.randn_like(want)
    dx, dweight = torch.autograd.grad(got_rows, [x, layer.weight], dy)
    want_dx, want_dweight = torch.autograd.grad(want, [valid, oracle.weight], dy)

    torch.testing.assert_close(got_rows, want)
    torch.testing.assert_close(torch.cat([dx[0], dx[1, :3]]), want_dx)
    torch.testing.assert_close(dweight, want_dweight * 0.6)
    assert not dx[1, 3:].any()
    torch.testing.assert_close(layer.running_mean, oracle.running_mean)
    torch.testing.assert_close(layer.running_var, oracle.running_var)


def test_in_evaluation_a_stream_gives_what_the_whole_gives_to_the_bit():
    layer, x = trained(), torch.randn(2, 9, 4)

    whole = layer(x, torch.tensor([9, 9]))
    steps = [layer(x[:, t : t + 1], torch.tensor([1, 1])) for t in range(9)]

    assert torch.equal(torch.cat(steps, 1), whole)


@pytest.mark.parametrize("bias", [True, False])
def test_folded_into_the_linear_layer_it_is_gone_and_nothing_changes(bias):
    linear, layer, x = nn.Linear(5, 4, bias=bias), trained(threshold=0.6, scale=0.5**0.5), torch.randn(2, 9, 5)

    folded = layer.fold(linear)

    torch.testing.assert_close(folded(x), layer(linear(x), torch.tensor([9, 9])))
    with pytest.raises(ValueError, match=r"linear: got 3 features out, wanted 4"):
        layer.fold(nn.Linear(5, 3))


@pytest.mark.parametrize("lens", [[0, 0], [1, 0]])
def test_a_batch_without_two_steps_leaves_the_running_statistics(lens):
    layer = trained().train()
    before = layer.running_mean.clone(), layer.running_var.clone()

    y = layer(torch.randn(2, 3, 4), torch.tensor(lens))

    assert y.isfinite().all()
    assert torch.equal(layer.running_mean, before[0])
    assert torch.equal(layer.running_var, before[1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"threshold": 0}, r"threshold: got 0, wanted > 0"), ({"momentum": 1.5}, r"momentum: got 1.5, wanted 0 to 1")],
)
def test_an_argument_that_does_not_fit_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        TdBN(3, **settings)
