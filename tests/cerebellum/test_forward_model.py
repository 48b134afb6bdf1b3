import math

import pytest
import torch

from cifasr.cerebellum.cmac import Cmac
from cifasr.cerebellum.forward_model import CmacModel, Correction, EchoState, Replay, mackey_glass, ridge

MODELS = {
    "echo": EchoState.grow(torch.Generator().manual_seed(0), num_inputs=1, num_neurons=60),
    "cmac": CmacModel(Cmac.dense((24, 24, 24), 8), num_delays=3, spacing=2, low=0.2, high=1.5),
}


def double(*rows):
    return torch.tensor(rows, dtype=torch.float64)


def test_states_equal_those_of_reservoirpy():
    model = EchoState(
        recurrent=double([0.5, 0.0, -0.4], [0.3, 0.2, 0.0], [0.0, -0.6, 0.1]),
        inward=double([0.7, -0.2], [0.1, 0.9], [-0.5, 0.3]),
        bias=torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64),
        leak=0.3,
    )
    inputs = double([1.0, 0.0], [0.0, 1.0], [-1.0, 0.5], [0.25, -0.75])[None]

    senses, state = model.sense(inputs, model.init_state(1))

    reservoirpy_0_4_2 = double(
        [0.19921103108035468, -0.029900398387486746, -0.0592125960674712],
        [0.14643362482459282, 0.17028988683670035, 0.12221520740167033],
        [-0.07410548890194683, 0.18643842232667168, 0.29443530240389604],
        [0.027261936825155972, -0.07442963116990034, 0.16660943430076897],
    )
    torch.testing.assert_close(senses[0, :, :3], reservoirpy_0_4_2, rtol=0, atol=1e-15)
    assert torch.equal(state[0], senses[0, -1, :3])
    assert torch.equal(senses[0, :, 3], torch.ones(4, dtype=torch.float64))


@pytest.mark.parametrize("name", MODELS)
def test_a_series_in_pieces_is_sensed_as_the_whole(name):
    model, series = MODELS[name], mackey_glass(50)[None, :, None]
    whole, _ = model.sense(series, model.init_state(1))

    first, state = model.sense(series[:, :3], model.init_state(1))
    second, _ = model.sense(series[:, 3:], state)

    assert torch.equal(torch.cat([first, second], 1), whole)


def test_the_echo_of_a_beginning_fades():
    model = MODELS["echo"]
    series = mackey_glass(300)[None, :, None]

    quiet, _ = model.sense(series, model.init_state(1))
    loud, _ = model.sense(series, model.init_state(1) + 1)

    assert (quiet - loud)[0, 0].abs().max() > 0.1
    assert (quiet - loud)[0, -1].abs().max() < 1e-6


def test_mackey_glass_is_foretold():
    series = mackey_glass(7584)
    model = EchoState.grow(torch.Generator().manual_seed(0), num_inputs=1, num_neurons=300)
    senses = model.sense(series[None, :, None], model.init_state(1))[0][0]
    horizons = (1, 10, 84)
    targets = torch.stack([series[h : h + 7500] for h in horizons], 1)

    weights = ridge(senses[500:5500], targets[500:5500], 1e-13)

    def nrmse(foretold):
        errors = foretold - targets[5500:]
        return (errors.square().mean(0).sqrt() / targets[5500:].std(0)).tolist()

    persistence = series[5500:7500, None].expand(-1, 3)
    assert nrmse(persistence) == pytest.approx([0.1457, 1.239, 1.628], rel=0.02)
    assert all(got < most for got, most in zip(nrmse(senses[5500:7500] @ weights), (2e-4, 6e-4, 0.03), strict=True))


def test_a_linear_reservoir_remembers_72_inputs_with_100_neurons():
    num_neurons, num_steps, generator = 100, 4000, torch.Generator().manual_seed(0)
    grown = EchoState.grow(
        generator, num_inputs=1, num_neurons=num_neurons, spectral_radius=0.9, leak=1.0, density=1.0, bias_scale=0.0
    )
    scale = 1e-7  # tanh is linear there to the last digit, and what was heard longest ago is in the last digits
    small = EchoState(grown.recurrent, scale * grown.inward, grown.bias, grown.leak)
    noise = 2 * torch.rand(200 + 2 * num_steps, generator=generator, dtype=torch.float64) - 1
    senses = small.sense(noise[None, :, None], small.init_state(1))[0][0, 200:, :-1] / scale
    delayed = torch.stack([noise[200 - delay : len(noise) - delay] for delay in range(1, 200)], 1)

    foretold = senses @ ridge(senses[:num_steps], delayed[:num_steps], 1e-25)

    def capacity(part):
        return sum(
            float(torch.corrcoef(torch.stack(pair))[0, 1] ** 2)
            for pair in zip(foretold[part].T, delayed[part].T, strict=True)
        )

    assert capacity(slice(num_steps)) == pytest.approx(71.9, rel=0.05)
    assert capacity(slice(num_steps, None)) == pytest.approx(71.9, rel=0.05)  # noise that it has not learnt from


@pytest.mark.parametrize("name", MODELS)
def test_the_climbing_fibre_alone_teaches_prediction_online(name):
    model, series = MODELS[name], mackey_glass(1201)
    senses = model.sense(series[None, :-1, None], model.init_state(1))[0][0]
    weights, errors = model.init_weights(1).double(), []

    for sensed, wanted in zip(senses, series[1:], strict=True):
        climbing_fibre = wanted - model.predict(weights, sensed[None])
        weights = model.learn(weights, sensed[None], climbing_fibre, beta=0.5)
        errors.append(float(climbing_fibre))

    early, late = (torch.tensor(part).square().mean().sqrt() for part in (errors[:20], errors[-400:]))
    assert early > series.std()
    assert late < 0.4 * series.std()


@pytest.mark.parametrize("name", MODELS)
def test_no_error_teaches_nothing(name):
    model = MODELS[name]
    senses = model.sense(mackey_glass(30)[None, :, None], model.init_state(1))[0][0]
    weights = model.init_weights(2).double() + 0.5

    assert torch.equal(model.learn(weights, senses, torch.zeros(30, 2, dtype=torch.float64), beta=1.0), weights)


def test_replay_keeps_what_was_learnt_before():
    generator = torch.Generator().manual_seed(0)
    model = EchoState.grow(generator, num_inputs=1, num_neurons=60)
    slow, quick = (torch.sin(torch.arange(601, dtype=torch.float64) * step) for step in (0.1, 0.9))

    def lesson(series):
        senses = model.sense(series[None, :-1, None], model.init_state(1))[0][0, 100:]
        return senses, series[101:, None]

    def error(weights, series):
        senses, targets = lesson(series)
        return float((senses @ weights - targets).square().mean().sqrt())

    replay = Replay.empty(80, 61, 1).remember(*lesson(slow), generator)
    alone, together = ridge(*lesson(quick), 1e-8), replay.readout(*lesson(quick), 1e-8)

    assert len(replay.senses) == 80
    assert replay.num_seen == 500
    assert error(alone, slow) > 20 * error(together, slow)
    assert error(together, quick) < 0.01


def test_every_moment_is_as_likely_to_be_kept():
    generator, counts = torch.Generator().manual_seed(0), torch.zeros(20)
    moments = torch.arange(20, dtype=torch.float64)[:, None]

    for _ in range(400):
        replay = Replay.empty(5, 1, 1).remember(moments[:12], moments[:12], generator)
        replay = replay.remember(moments[12:], moments[12:], generator)
        counts[replay.senses[:, 0].long()] += 1

    assert counts.sum() == 400 * 5
    assert counts.min() > 60
    assert counts.max() < 140


def test_a_correction_takes_a_lasting_error_away_and_is_let_go_afterwards():
    correction = Correction(tolerance=0.05)
    state, errors = correction.init_state(1, 1), []

    for time in range(120):
        bias = 1.0 if time < 60 else 0.0
        climbing_fibre = bias - state.value
        errors.append(float(climbing_fibre))
        state = correction.step(state, climbing_fibre)

    assert errors[0] == 1.0
    assert max(map(abs, errors[20:60])) < 0.5
    assert math.fsum(map(abs, errors[20:60])) / 40 < 0.15
    assert abs(errors[-1]) < 0.06


def test_an_error_that_comes_back_is_corrected_for_longer():
    correction = Correction(tolerance=0.1)
    state, lengths = correction.init_state(1, 1), []

    for time in range(80):
        state = correction.step(state, torch.full((1, 1), 1.0 if time % 20 == 0 else 0.0))
        lengths.append(int(state.length))

    assert lengths[::20] == [2, 4, 8, 16]


@pytest.mark.parametrize("wrong", [{"spectral_radius": 1.0}, {"leak": 0.0}, {"density": 0.0}])
def test_a_reservoir_without_a_fading_echo_is_refused(wrong):
    with pytest.raises(ValueError, match="spectral_radius, leak, density: wanted"):
        EchoState.grow(torch.Generator(), num_inputs=1, num_neurons=10, **wrong)


def test_neurons_without_a_cycle_are_refused():
    with pytest.raises(ValueError, match="without a cycle"):
        EchoState.grow(torch.Generator().manual_seed(0), num_inputs=1, num_neurons=3, density=0.01)
