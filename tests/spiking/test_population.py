"""Reference values: ../shared/design/spiking_cerebellum.md, section 1.19."""

import pytest
import torch
from torch import nn

from cifasr.spiking.population import PopulationEncoder, SpikingActor


def stepwise(actor, obs):
    """The actor as the paper writes it: step by step, layer by layer, the reset a factor of the next step.

    A spike has the gradient of a window half a unit to each side of the threshold, 1 high.
    """
    spikes = actor.encoder(obs).unbind(1)
    for linear in actor.linears:
        zero = torch.zeros(len(obs), linear.out_features)
        synaptic, volt, fired, heard = zero, zero, zero, spikes
        spikes = []
        for spikes_t in heard:
            synaptic = 0.5 * synaptic + linear(spikes_t)
            volt = 0.75 * volt * (1 - fired) + synaptic
            in_window = (volt - 0.5).abs() < 0.5
            fired = (volt >= 0.5) + in_window * (volt - volt.detach())
            spikes.append(fired)
    rates = torch.stack(spikes).mean(0).reshape(len(obs), *actor.weight.shape)
    return torch.stack([rates[:, i] @ actor.weight[i] for i in range(len(actor.weight))], 1) + actor.bias


def test_a_neuron_spikes_as_often_as_its_field_is_high():
    encoder = PopulationEncoder(5, neurons=2)
    nn.init.ones_(encoder.widths)
    nn.init.zeros_(encoder.centres)
    heights = torch.tensor([1, 0.7, 0.5, 0.2, 0.1])

    spikes = encoder((-2 * heights.log()).sqrt()[None])

    assert spikes.sum(1).reshape(5, 2).tolist() == [[5, 5], [3, 3], [2, 2], [1, 1], [0, 0]]


def test_neurons_lie_evenly_over_the_span_and_the_nearest_spikes_in_every_step():
    encoder = PopulationEncoder(1)
    places = torch.linspace(-3, 3, 10)

    spikes = encoder(places[:, None])

    assert encoder.centres[0].tolist() == pytest.approx(places.tolist())
    assert spikes.sum(1).argmax(1).tolist() == list(range(10))
    assert spikes.sum(1).diagonal().tolist() == [5] * 10


def test_the_rate_hears_its_height_about_once():
    encoder = PopulationEncoder(1, num_steps=20)
    heights = encoder.heights(torch.tensor([[0.4]]))

    (grad,) = torch.autograd.grad(encoder(torch.tensor([[0.4]])).mean(1).sum(), encoder.centres)
    (wanted,) = torch.autograd.grad(heights.sum(), encoder.centres)

    torch.testing.assert_close(grad, wanted, rtol=0.1, atol=1e-6)


def test_the_actor_decides_as_the_step_by_step_form():
    actor, obs = SpikingActor(3, 2, hidden=(40, 30)), torch.randn(16, 3)

    actions = actor(obs)

    assert 0.05 < actor.spikes(obs)[2].mean() < 0.95
    torch.testing.assert_close(actions, stepwise(actor, obs))


def test_the_actor_learns_as_the_step_by_step_form():
    actor, obs = SpikingActor(3, 2, hidden=(40, 30)), torch.randn(16, 3)
    learned = [linear.weight for linear in actor.linears]

    grads = torch.autograd.grad(actor(obs).square().sum(), learned)

    wanted = torch.autograd.grad(stepwise(actor, obs).square().sum(), learned)
    assert all(grad.any() for grad in grads)
    torch.testing.assert_close(grads, wanted, rtol=1e-4, atol=1e-5)


def test_a_decision_knows_nothing_of_the_rest_of_its_batch():
    actor, obs = SpikingActor(2, 1, hidden=(20,)), torch.randn(5, 2)

    alone = torch.cat([actor(row[None]) for row in obs])

    torch.testing.assert_close(actor(obs), alone)


def test_the_actor_learns_a_function_it_is_shown():
    actor, obs = SpikingActor(1, 1, hidden=(32,)), torch.linspace(-3, 3, 64)[:, None]
    optimizer = torch.optim.Adam(actor.parameters(), lr=0.01)

    for _ in range(150):
        loss = (actor(obs) - obs.sin()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert loss < 0.02  # guessing the mean has 0.5


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"neurons": 1}, "neurons"), ({"num_steps": 0}, "num_steps"), ({"span": (1, 1)}, "span"), ({"width": 0}, "width")],
)
def test_a_wrong_setting_is_named(settings, named):
    with pytest.raises(ValueError, match=named):
        PopulationEncoder(1, **settings)
