import math

import pytest
import torch

from cifasr.cerebellum.granular import GranularCircuit, purkinje, teach_purkinje


def swing(circuit, num_steps):
    """Positions of a swing from 1 at rest, the first included, and velocities, both (num_steps + 1,)."""
    one, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    granules, _ = circuit.run(circuit.init_state(one, zero), torch.zeros(1, num_steps, dtype=torch.float64))
    position = torch.cat([one, granules[0, :, 0]])
    return position, torch.cat([zero, granules[0, :, 1]]) * circuit.omega


def test_as_printed_is_the_matrix_of_the_source():
    circuit = GranularCircuit(0.3, "as_printed")
    matrix = torch.tensor([[1, 1, 0], [0, 1, 1], [-0.09, 0, 0]], dtype=torch.float64)
    state = circuit.init_state(torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 3.0]).double())

    after = circuit.step(state, torch.zeros(2))

    torch.testing.assert_close(torch.stack(after), matrix @ torch.stack(state))


@pytest.mark.parametrize(
    ("omega", "growth", "period", "growth_a_period", "symplectic_period"),
    [
        (0.01, 1.00009998, 628.410, 1.0648, 628.3159),
        (0.05, 1.00248761, 126.120, 1.3680, 125.6506),
        (0.1, 1.00980671, 63.7326, 1.8626, 62.8057),
        (0.2, 1.03718338, 33.1346, 3.3525, 31.3634),
        (0.5, 1.17965204, 15.9973, 14.056, 12.4331),
    ],
)
def test_growth_and_periods_are_those_of_the_table(omega, growth, period, growth_a_period, symplectic_period):
    printed = GranularCircuit(omega, "as_printed").eigenvalues()
    symplectic = GranularCircuit(omega, "symplectic").eigenvalues()
    rotation = GranularCircuit(omega, "exact_rotation").eigenvalues()

    size, turn = abs(printed[0]), math.atan2(printed[0].imag, printed[0].real)
    assert size == pytest.approx(growth, abs=1e-8)
    assert [abs(value * (value - 1) ** 2 + omega**2) for value in printed] == pytest.approx([0] * 3, abs=1e-12)
    assert math.prod(printed) == pytest.approx(-(omega**2), abs=1e-12)
    assert 2 * math.pi / turn == pytest.approx(period, abs=6e-4)
    assert size ** (2 * math.pi / turn) == pytest.approx(growth_a_period, rel=1e-4)
    assert [abs(value) for value in (symplectic[0], rotation[0])] == pytest.approx([1, 1], abs=1e-12)
    turn = math.atan2(symplectic[0].imag, symplectic[0].real)
    assert 2 * math.pi / turn == pytest.approx(symplectic_period, abs=6e-5)
    assert math.pi / math.asin(omega / 2) == pytest.approx(2 * math.pi / turn)
    assert math.atan2(rotation[0].imag, rotation[0].real) == pytest.approx(omega)


def test_the_swing_as_printed_grows_with_the_peaks_of_the_table():
    position, _ = swing(GranularCircuit(0.1, "as_printed"), 400)

    inner = position[1:-1]
    peaks = ((inner > position[:-2]) & (inner > position[2:])).nonzero()[:, 0] + 1

    assert peaks.tolist() == [64, 128, 192, 255, 319, 383]
    assert position[peaks].tolist() == pytest.approx([1.864, 3.474, 6.467, 12.04, 22.44, 41.80], rel=1e-3)


@pytest.mark.parametrize("omega", [0.1, 1.0, 1.9])
def test_the_symplectic_swing_keeps_its_invariant_and_so_is_bounded(omega):
    position, velocity = swing(GranularCircuit(omega, "symplectic"), 700)

    kept = velocity**2 + omega**2 * position * velocity + omega**2 * position**2

    torch.testing.assert_close(kept, torch.full_like(kept, omega**2))
    assert float(position.abs().max()) <= 1 / math.sqrt(1 - omega**2 / 4) + 1e-9


def test_the_exact_rotation_is_a_cosine():
    position, _ = swing(GranularCircuit(0.1, "exact_rotation"), 300)

    torch.testing.assert_close(position, torch.cos(0.1 * torch.arange(301, dtype=torch.float64)))


@pytest.mark.parametrize("variant", ["as_printed", "symplectic", "exact_rotation"])
def test_a_run_in_pieces_is_the_run(variant):
    circuit, mossy = GranularCircuit(0.4, variant), torch.randn(3, 9)
    start = circuit.init_state(torch.randn(3), torch.randn(3))

    whole, end = circuit.run(start, mossy)

    first, between = circuit.run(start, mossy[:, :4])
    none, between = circuit.run(between, mossy[:, 4:4])
    second, last = circuit.run(between, mossy[:, 4:])
    assert torch.equal(torch.cat([first, none, second], 1), whole)
    assert all(map(torch.equal, last, end))


def test_the_climbing_fibre_teaches_a_purkinje_cell_to_foretell_the_rhythm():
    circuit = GranularCircuit(0.2)
    one = torch.ones(1, dtype=torch.float64)
    granules, _ = circuit.run(circuit.init_state(one, 0 * one), torch.zeros(1, 400, dtype=torch.float64))
    turn = 2 * math.asin(0.1) * torch.arange(1, 401, dtype=torch.float64)
    ahead = 3 * torch.cos(turn + 1.0)[:, None]  # what the rhythm will be, louder, a radian on
    weights, errors = torch.zeros(2, 1, dtype=torch.float64), []

    for granule, wanted in zip(granules[0].split(1), ahead.split(1), strict=True):
        climbing_fibre = wanted - purkinje(weights, granule)
        weights = teach_purkinje(weights, granule, climbing_fibre, beta=0.5)
        errors.append(abs(float(climbing_fibre)))

    assert max(errors[:20]) > 1
    assert max(errors[-40:]) < 1e-6


def test_a_silent_circuit_teaches_nothing():
    weights = torch.ones(2, 1)

    assert torch.equal(teach_purkinje(weights, torch.zeros(3, 2), torch.ones(3, 1), beta=1.0), weights)


def test_what_does_not_swing_is_named():
    with pytest.raises(ValueError, match=r"omega must be in \(0, 2\) radians a step, got 2"):
        GranularCircuit(2.0)
    with pytest.raises(ValueError, match="variant must be"):
        GranularCircuit(0.1, "euler")
