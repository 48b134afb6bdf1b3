"""Reference values: ../shared/design/spiking_cerebellum.md, section 1.10."""

import pytest
import torch
from torch import nn

from cifasr.spiking.lif import LIF
from cifasr.spiking.shrinkage import (
    ShrinkingNetwork,
    SpikingStage,
    TemporalTransformer,
    average_steps,
    mean_pooling,
    synaptic_operations,
)

WIDTHS = (6, 7, 5)
SCHEDULES = [(4, 2, 1), (2, 2, 2), (1, 1, 1)]


def network():
    pairs = zip((3, *WIDTHS), WIDTHS, strict=False)
    stages = [SpikingStage(width_in, width, LIF(0.7, convention="adds")) for width_in, width in pairs]
    return ShrinkingNetwork(stages, WIDTHS, 4, SCHEDULES)


def test_each_stage_has_its_steps_of_each_frame():
    for schedule in SCHEDULES:
        out = network()(torch.randn(2, 9, 3), torch.tensor([9, 5]), schedule)

        assert [tuple(x.shape) for x in out.spikes] == [
            (2, 9 * steps, width) for steps, width in zip(schedule, WIDTHS, strict=True)
        ]
        assert {x for layer in out.spikes for x in layer.unique().tolist()} == {0, 1}


def test_early_classifiers_speak_while_training_only():
    net, batch = network(), (torch.randn(2, 9, 3), torch.tensor([9, 5]), (4, 2, 1))

    assert [tuple(x.shape) for x in net.train()(*batch).logits] == [(2, 4)] * 3
    assert [tuple(x.shape) for x in net.eval()(*batch).logits] == [(2, 4)]


def test_a_mixture_starts_as_the_mean_exactly():
    x = torch.randn(2, 3 * 4, 5)

    assert torch.equal(TemporalTransformer(4, 2)(x), x.view(2, 6, 2, 5).mean(2))
    assert torch.equal(TemporalTransformer(4, 1)(x), x.view(2, 3, 4, 5).mean(2))


def test_pooling_steps_that_do_not_divide_shares_the_middle():
    assert mean_pooling(3, 2).tolist() == pytest.approx(
        [pytest.approx([2 / 3, 1 / 3, 0]), pytest.approx([0, 1 / 3, 2 / 3])]
    )
    assert mean_pooling(5, 3).sum(1).tolist() == pytest.approx([1] * 3)


def test_as_many_steps_as_before_are_the_same_steps():
    x, same = torch.randn(2, 12, 5), TemporalTransformer(4, 4)

    assert same(x) is x
    assert not list(same.parameters())


def test_a_mixture_learns_what_the_mean_loses():
    transformer, x = TemporalTransformer(2, 1), torch.randn(1, 200, 1)
    optimizer = torch.optim.Adam(transformer.parameters(), lr=0.05)
    for _ in range(100):
        loss = (transformer(x) - x[:, 1::2]).square().mean()  # only the second step of each frame is wanted
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    assert transformer.mixture.flatten().tolist() == pytest.approx([0, 1], abs=0.05)


def test_steps_on_average_and_additions_counted_by_hand():
    spikes = [torch.zeros(2, 8, 6), torch.zeros(2, 4, 7)]
    spikes[0][0, :, :3] = 1  # half the neurons in each of 8 steps: 24 spikes, 7 neurons hear each
    spikes[1][:, 1, 2] = 1  # one spike a row, 5 neurons hear it

    assert average_steps((4, 2, 1)) == pytest.approx(7 / 3)
    assert synaptic_operations(spikes, [7, 5]).tolist() == [24 * 7 + 5, 5]


def test_additions_are_rate_times_fan_out_times_steps_summed():
    out = network()(3 * torch.randn(1, 10, 3), torch.tensor([10]), (4, 2, 1))
    fan_outs = (7, 5, 4)

    additions = synaptic_operations(out.spikes, fan_outs).item()

    terms = zip(out.spikes, WIDTHS, fan_outs, (4, 2, 1), strict=True)
    assert additions > 0
    assert additions == pytest.approx(sum(x.mean().item() * w * fan_out * 10 * t for x, w, fan_out, t in terms))


def test_what_is_past_the_lengths_changes_nothing_in_evaluation():
    net, feats = network().eval(), torch.randn(1, 9, 3)

    alone = net(feats[:, :5], torch.tensor([5]), (4, 2, 1))
    feats[:, 5:] = torch.nan
    padded = net(feats, torch.tensor([5]), (4, 2, 1))

    torch.testing.assert_close(padded.logits, alone.logits)


def test_one_network_learns_under_every_schedule_in_turn():
    net, targets = network(), torch.arange(4).repeat(8)
    feats = nn.functional.one_hot(targets, 4).float()[:, None, :3].expand(-1, 6, -1)  # the last class is silence
    optimizer, lens = torch.optim.Adam(net.parameters(), lr=0.02), torch.full((32,), 6)
    for i in range(150):
        logits = net(feats, lens, SCHEDULES[i % 3]).logits
        loss = sum(nn.functional.cross_entropy(x, targets) for x in logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()

    for schedule in SCHEDULES:
        assert (net(feats, lens, schedule).logits[-1].argmax(1) == targets).all()


def test_a_schedule_that_grows_or_is_unknown_is_named():
    with pytest.raises(ValueError, match=r"num_out: got 2, wanted 1 to num_in, 1"):
        ShrinkingNetwork([nn.Identity()] * 2, (3, 3), 4, [(1, 2)])
    with pytest.raises(ValueError, match=r"schedules: got \(1,\) for 2 stages"):
        ShrinkingNetwork([nn.Identity()] * 2, (3, 3), 4, [(1,)])
    with pytest.raises(ValueError, match=r"schedule: got \(3, 2, 1\)"):
        network()(torch.randn(1, 2, 3), torch.tensor([2]), (3, 2, 1))
