"""What every spiking layer keeps to, whatever its neuron."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifasr.ops.lif import ATan, FastSigmoid, Rect, Sigmoid
from cifasr.spiking.adaptive_lif import AdaptiveLIF
from cifasr.spiking.lif import IF, LIF
from cifasr.spiking.sliding_psn import SlidingPSN

D = 5
ADAPTIVE = {"decay": 0.9, "adaptation_decay": 0.95, "coupling": 1.5, "jump": 2.0}
LAYERS = {
    "IF": lambda **more: IF(**more),
    "LIF settles": lambda **more: LIF(0.6, convention="settles", threshold=0.4, **more),
    "LIF adds": lambda **more: LIF(0.6, convention="adds", reset="zero", **more),
    "AdaptiveLIF": lambda **more: AdaptiveLIF(D, threshold=0.2, **ADAPTIVE, **more),
    "SlidingPSN": lambda **more: SlidingPSN(4, **more),
}


@pytest.fixture(params=LAYERS)
def make(request):
    """A maker of one kind of layer, with more settings."""
    return LAYERS[request.param]


def in_chunks(layer, current, input_lens, cuts):
    """Run chunk by chunk with the state carried; rows end where they end."""
    state, spikes, start = None, [], 0
    for stop in [*cuts, current.shape[1]]:
        chunk_lens = (input_lens - start).clamp(0, stop - start)
        chunk_spikes, state = layer(current[:, start:stop], chunk_lens, state)
        spikes.append(chunk_spikes)
        start = stop
    return torch.cat(spikes, 1), state


@settings(max_examples=5)
@given(cuts=st.lists(st.integers(0, 17), max_size=4).map(sorted), seed=st.integers(0, 99))
@pytest.mark.parametrize("kind", LAYERS)
def test_chunks_of_any_size_spike_as_the_whole_to_the_bit(kind, cuts, seed):
    layer, current, input_lens = LAYERS[kind](), torch.randn(2, 17, D) + 0.5, torch.tensor([17, 11])

    whole, whole_state = layer(current, input_lens)
    chunked, state = in_chunks(layer, current, input_lens, cuts)

    assert whole.any()
    assert torch.equal(chunked, whole)
    assert all(torch.equal(state[name], whole_state[name]) for name in state | whole_state)


def test_a_loop_over_single_steps_spikes_as_the_whole_to_the_bit(make):
    layer, current, input_lens = make(), torch.randn(3, 40, D) + 0.5, torch.tensor([40, 23, 0])

    whole, whole_state = layer(current, input_lens)
    looped, state = in_chunks(layer, current, input_lens, range(1, 40))

    assert torch.equal(looped, whole)
    assert all(torch.equal(state[name], whole_state[name]) for name in state | whole_state)


def test_padding_and_other_rows_change_nothing_forward_or_backward(make):
    layer = make()
    row = (torch.randn(1, 7, D) + 0.5).requires_grad_()
    padded = torch.cat([torch.cat([row, torch.full((1, 4, D), torch.nan)], 1), torch.randn(1, 11, D)])

    spikes, state = layer(padded, torch.tensor([7, 11]))
    alone, alone_state = layer(row, torch.tensor([7]))
    wanted = [row, *layer.parameters()]
    grads = torch.autograd.grad(spikes[:1, :7].sum() + sum(x[0].sum() for x in state.values()), wanted)
    alone_grads = torch.autograd.grad(alone.sum() + sum(x.sum() for x in alone_state.values()), wanted)

    assert torch.equal(spikes[:1, :7], alone)
    assert not spikes[0, 7:].any()
    assert all(torch.equal(state[name][:1], alone_state[name]) for name in state)
    torch.testing.assert_close(grads, alone_grads)
    assert alone_grads[0].any()


def test_a_layer_keeps_no_state_in_itself(make):
    layer, current, input_lens = make(), torch.randn(1, 9, D) + 0.5, torch.tensor([9])

    first, _ = layer(current, input_lens)
    again, _ = layer(current, input_lens)

    assert torch.equal(first, again)
    assert set(layer.state_dict()) == {name for name, _ in layer.named_parameters()}
    assert not list(layer.buffers())


@pytest.mark.parametrize("surrogate", [ATan(), Sigmoid(), FastSigmoid(), Rect()], ids=repr)
def test_its_gradient_is_that_of_the_surrogate_given(make, surrogate):
    layer = make(surrogate=surrogate)
    current = torch.rand(1, 1, D, requires_grad=True)

    spikes, _ = layer(current, torch.tensor([1]))
    (grad,) = torch.autograd.grad(spikes.sum(), current)

    gain = {"LIF": 0.4 if getattr(layer, "convention", "") == "settles" else 1, "AdaptiveLIF": 0.1}
    gain = gain.get(type(layer).__name__, 1)
    want = gain * surrogate.derivative(gain * current.detach() - layer.threshold)
    torch.testing.assert_close(grad, want)


def test_bfloat16_currents_give_bfloat16_spikes_and_no_steps_give_none(make):
    layer = make()

    spikes, state = layer((torch.randn(1, 9, D) + 0.5).bfloat16(), torch.tensor([9]))
    none, same = layer(torch.zeros(1, 0, D).bfloat16(), torch.tensor([0]), state)

    assert spikes.dtype == none.dtype == torch.bfloat16
    assert none.shape == (1, 0, D)
    assert all(torch.equal(same[name], state[name]) for name in state)
