"""Reference values: ../shared/design/spiking_cerebellum.md, sections 1.1 to 1.3, of CODATA constants."""

import math

import pytest
import torch

from cifasr.spiking.biophysics import (
    chord_potential_mv,
    concentration_change,
    goldman_mv,
    membrane_slope,
    nernst_mv,
    passive_potential_mv,
    thermal_potential_mv,
)


def f64(*values):
    return torch.tensor(values, dtype=torch.float64)


SQUID_OUT, SQUID_IN = f64(20, 440, 560), f64(400, 50, 52)  # K, Na, Cl, mM
MAMMAL_OUT, MAMMAL_IN = f64(5, 145, 110), f64(140, 12, 10)
VALENCE = torch.tensor([1, 1, -1])
HH_CONDUCTANCE, HH_REVERSAL = f64(0.01062, 0.36690, 0.3), f64(50, -77, -54.387)  # Na, K, leak at rest


@pytest.mark.parametrize(
    ("temperature_c", "thermal", "decade"),
    [(6.3, 24.0811, None), (20, 25.2617, 58.167), (25, 25.6926, 59.159), (37, 26.7267, 61.540)],
)
def test_the_thermal_potential_and_that_of_a_tenfold_concentration(temperature_c, thermal, decade):
    assert thermal_potential_mv(temperature_c) == pytest.approx(thermal, abs=5e-5)
    if decade:
        assert nernst_mv(f64(10), f64(1), 1, temperature_c=temperature_c).item() == pytest.approx(decade, abs=5e-4)


@pytest.mark.parametrize(
    ("outside", "inside", "temperature_c", "potentials"),
    [
        (SQUID_OUT, SQUID_IN, 20, [-75.68, 54.94, -60.04]),
        (SQUID_OUT, SQUID_IN, 6.3, [-72.14, 52.37, -57.23]),
        (MAMMAL_OUT, MAMMAL_IN, 37, [-89.06, 66.60, -64.09]),
    ],
)
def test_potassium_sodium_and_chloride_have_their_nernst_potentials(outside, inside, temperature_c, potentials):
    got = nernst_mv(outside, inside, VALENCE, temperature_c=temperature_c)

    assert got.tolist() == pytest.approx(potentials, abs=0.005)


def test_two_charges_halve_the_potential_and_a_negative_one_turns_it():
    potassium, calcium = (nernst_mv(f64(1.5), f64(1e-4), z, temperature_c=37) for z in (1, 2))

    assert calcium.item() == pytest.approx(128.50, abs=0.005)
    assert torch.equal(calcium * 2, potassium)
    assert torch.equal(nernst_mv(f64(1.5), f64(1e-4), -1, temperature_c=37), -potassium)
    assert nernst_mv(f64(3), f64(3), 1, temperature_c=37).item() == 0


@pytest.mark.parametrize(
    ("permeability", "outside", "inside", "temperature_c", "potential"),
    [
        ((1, 0.04, 0.45), SQUID_OUT, SQUID_IN, 20, -59.93),
        ((1, 0.04, 0.45), SQUID_OUT, SQUID_IN, 6.3, -57.13),
        ((1, 20, 0.45), SQUID_OUT, SQUID_IN, 20, 42.38),
        ((1, 0.04, 0.45), MAMMAL_OUT, MAMMAL_IN, 37, -67.33),
    ],
)
def test_the_goldman_potential_at_rest_and_at_the_peak_of_a_spike(
    permeability, outside, inside, temperature_c, potential
):
    got, scaled = (
        goldman_mv(factor * f64(*permeability), outside, inside, VALENCE, temperature_c=temperature_c).item()
        for factor in (1, 7)
    )

    assert got == pytest.approx(potential, abs=0.005)
    assert scaled == pytest.approx(got, abs=1e-12)


@pytest.mark.parametrize("ion", [0, 1, 2])
def test_a_membrane_that_lets_one_ion_through_has_the_potential_of_that_ion(ion):
    only = torch.eye(3, dtype=torch.float64)[ion]

    got = goldman_mv(only, SQUID_OUT, SQUID_IN, VALENCE, temperature_c=20)

    assert got.item() == pytest.approx(nernst_mv(SQUID_OUT, SQUID_IN, VALENCE, temperature_c=20)[ion].item(), abs=1e-12)


def test_goldman_refuses_ions_of_two_charges_and_temperatures_below_absolute_zero():
    with pytest.raises(ValueError, match=r"valence: got \[1, 2, -1\], wanted only"):
        goldman_mv(SQUID_OUT, SQUID_OUT, SQUID_IN, torch.tensor([1, 2, -1]), temperature_c=20)
    with pytest.raises(ValueError, match=r"temperature_c: got -300, wanted more than -273.15"):
        thermal_potential_mv(-300)


def test_the_circuit_rests_where_conductances_balance():
    rest = chord_potential_mv(HH_CONDUCTANCE, HH_REVERSAL)

    assert rest.item() == pytest.approx(-64.996, abs=0.0005)
    assert membrane_slope(rest, HH_CONDUCTANCE, HH_REVERSAL).item() == pytest.approx(0, abs=1e-14)
    pushed = chord_potential_mv(HH_CONDUCTANCE, HH_REVERSAL, current=1.0)
    assert (pushed - rest).item() == pytest.approx(1 / HH_CONDUCTANCE.sum().item())


def test_permeabilities_taken_for_conductances_rest_near_the_goldman_potential_only():
    permeability = f64(1, 0.04, 0.45)

    chord = chord_potential_mv(permeability, nernst_mv(SQUID_OUT, SQUID_IN, VALENCE, temperature_c=20))

    goldman = goldman_mv(permeability, SQUID_OUT, SQUID_IN, VALENCE, temperature_c=20)
    assert chord.item() == pytest.approx((-75.68 + 0.04 * 54.94 - 0.45 * 60.04) / 1.49, abs=0.01)
    assert 5 < (goldman - chord).item() < 10


def test_a_passive_membrane_goes_to_rest_exponentially_and_solves_the_circuit():
    time_ms, start_mv = f64(0, 1, 2.5, 400).requires_grad_(), f64(-80)
    circuit = {"capacitance": 0.8, "current": 0.7}

    potential = passive_potential_mv(time_ms, start_mv, HH_CONDUCTANCE, HH_REVERSAL, **circuit)
    (slope,) = torch.autograd.grad(potential.sum(), time_ms)

    rest = chord_potential_mv(HH_CONDUCTANCE, HH_REVERSAL, current=0.7).item()
    after_1_ms = rest + (-80 - rest) * math.exp(-HH_CONDUCTANCE.sum().item() / 0.8)
    assert potential.tolist()[:2] == pytest.approx([-80, after_1_ms])
    assert potential.tolist()[3] == pytest.approx(rest)
    torch.testing.assert_close(slope, membrane_slope(potential, HH_CONDUCTANCE, HH_REVERSAL, **circuit))


def test_a_spike_hardly_changes_concentrations():
    giant, thin = (concentration_change(100, diameter, overlap=4) for diameter in (500, 1))

    assert giant == pytest.approx(3.3e-4, rel=0.02)
    assert giant / 50 == pytest.approx(6.6e-6, rel=0.02)
    assert thin == pytest.approx(0.17, rel=0.03)
    assert thin / 50 == pytest.approx(0.0033, rel=0.02)
    # 1.04 pmol/cm2 for 100 mV, in a cylinder of 1 um, 1e-4 cm / 4 of volume for each area
    assert concentration_change(100, 1) == pytest.approx(1.04e-12 / (1e-4 / 4) * 1e6, rel=0.005)


def test_potentials_are_differentiable_by_all_that_is_continuous():
    arguments = [x.clone().requires_grad_() for x in (f64(1, 0.04, 0.45), SQUID_OUT, SQUID_IN)]

    assert torch.autograd.gradcheck(lambda p, o, i: goldman_mv(p, o, i, VALENCE, temperature_c=20), arguments)
    assert torch.autograd.gradcheck(lambda o, i: nernst_mv(o, i, VALENCE, temperature_c=20), arguments[1:])
    assert torch.autograd.gradcheck(membrane_slope, (f64(-70).requires_grad_(), arguments[0], HH_REVERSAL))
