import pytest
import torch

from cifasr.ops.lif import ATan, FastSigmoid, lif

pytest.importorskip("snntorch", reason="needs snnTorch: see tests/oracles/README.md")

import snntorch
from snntorch import surrogate

T, B, D = 200, 3, 64


def theirs(current, **settings):
    layer = snntorch.Leaky(beta=0.9, **settings)
    membrane, spikes = layer.reset_mem(), []
    for current_t in current.unbind(1):
        spikes_t, membrane = layer(current_t, membrane)
        spikes.append(spikes_t)
    return torch.stack(spikes, 1)


@pytest.mark.parametrize(("ours", "name"), [("subtract", "subtract"), ("zero", "zero")])
def test_without_its_delay_their_neuron_spikes_as_ours(compared, ours, name):
    current = torch.rand(B, T, D) * 0.5

    spikes = lif(current, torch.full((B,), T), decay=0.9, reset=ours).spikes
    differing = (spikes != theirs(current, reset_mechanism=name, reset_delay=False)).float().mean().item()

    compared("snnTorch", f"Leaky, reset {name}, no delay", f"rate {spikes.mean():.4f}", f"{differing:.2%} differ")
    assert differing == 0


def test_as_it_comes_their_neuron_resets_a_step_late_and_spikes_otherwise(compared):
    current = torch.rand(B, T, D) * 0.5

    spikes = lif(current, torch.full((B,), T), decay=0.9).spikes
    late = theirs(current)

    differing = (spikes != late).float().mean().item()
    compared("snnTorch", "Leaky as it comes", f"rate {spikes.mean():.4f}", f"{late.mean():.4f}, {differing:.0%} differ")
    assert differing > 0.1
    assert late.mean() < spikes.mean()


def test_at_the_threshold_ours_fires_and_theirs_does_not(compared):
    one = torch.ones(1, 1, 1)

    ours = lif(one, torch.tensor([1]), decay=0.9).spikes.item()

    compared("snnTorch", "spike at the threshold itself", ours, theirs(one).item())
    assert (ours, theirs(one).item()) == (1, 0)


@pytest.mark.parametrize(
    ("ours", "make"),
    [(ATan(2.0), lambda: surrogate.atan(2.0)), (FastSigmoid(25.0), lambda: surrogate.fast_sigmoid(25))],
)
def test_surrogates_have_their_values(compared, ours, make):
    above = torch.tensor([-1, -0.5, 0, 0.25, 1]).requires_grad_()

    values = ours.derivative(above.detach())
    (wanted,) = torch.autograd.grad(make()(above).sum(), above)

    name = f"{type(ours).__name__} at -1 -.5 0 .25 1"
    compared("snnTorch", name, *([round(v, 4) for v in x.tolist()] for x in (values, wanted)))
    torch.testing.assert_close(values, wanted)
