"""The membrane as a circuit: potentials that ions hold by themselves, and a capacitor that conductances charge.

Everything here takes tensors of any shape, broadcasts, stays in float64 where it gets float64, and is differentiable.
Potentials are inside minus outside, in mV; concentrations in mM; times in ms; per area of membrane, capacitance is in
uF/cm2, conductance in mS/cm2 and current in uA/cm2, which fit together without a factor.
"""

import torch
from torch import Tensor

GAS_CONSTANT = 8.314462618  # J/mol/K, exact: CODATA 2018
FARADAY_CONSTANT = 96485.33212  # C/mol: CODATA 2018
ZERO_CELSIUS_K = 273.15


def thermal_potential_mv(temperature_c: float) -> float:
    """Give ``R * T / F``, the potential over which an ion of one charge gains its own thermal energy.

    Args:
        temperature_c: Degrees Celsius, above absolute zero.

    Returns:
        mV: 25.26 at 20 degrees.

    Raises:
        ValueError: The temperature is not above absolute zero.
    """
    if not temperature_c > -ZERO_CELSIUS_K:
        raise ValueError(f"temperature_c: got {temperature_c}, wanted more than {-ZERO_CELSIUS_K}")
    return 1000 * GAS_CONSTANT * (temperature_c + ZERO_CELSIUS_K) / FARADAY_CONSTANT


def nernst_mv(outside: Tensor, inside: Tensor, valence: Tensor | int, *, temperature_c: float) -> Tensor:
    """Give the potential at which one kind of ion is in equilibrium: ``R*T / (z*F) * ln(outside / inside)``.

    Args:
        outside: Concentration outside, mM, > 0.
        inside: Concentration inside, mM, > 0.
        valence: Charges of the ion with their sign, not 0: +1 for K, -1 for Cl, +2 for Ca.
        temperature_c: Degrees Celsius. It is an argument, though the review has it among the constants.

    Returns:
        mV, in the shape to which the arguments broadcast.

    Source:
        Nernst 1888; the review (J. Hu, "Bridging Neuroscience and AI"), eq. 1.
    """
    return thermal_potential_mv(temperature_c) * torch.log(outside / inside) / valence


def goldman_mv(
    permeability: Tensor, outside: Tensor, inside: Tensor, valence: Tensor, *, temperature_c: float
) -> Tensor:
    """Give the potential at which the currents of several ions of one charge add up to nothing.

    The review (eq. 2) calls it the membrane potential; it is so only in a steady state without net current, in a
    constant field. Permeabilities count by their ratios, and they are no constants: an action potential is their
    change. The review swaps in and out for chloride, as is right; here the sign of ``valence`` does it.

    Args:
        permeability: (..., ions), >= 0, of any unit, as only ratios count; one at least is not 0.
        outside: (..., ions) mM, > 0.
        inside: (..., ions) mM, > 0.
        valence: (ions,) of +1 and -1.
        temperature_c: Degrees Celsius.

    Returns:
        (...) mV.

    Raises:
        ValueError: An ion has more than one charge; the equation does not hold for it.

    Source:
        Goldman 1943, Hodgkin and Katz 1949; the review, eq. 2.
    """
    if not bool((valence.abs() == 1).all()):
        raise ValueError(f"valence: got {valence.tolist()}, wanted only +1 and -1")
    enters = torch.where(valence > 0, outside, inside)
    leaves = torch.where(valence > 0, inside, outside)
    ratio = (permeability * enters).sum(-1) / (permeability * leaves).sum(-1)
    return thermal_potential_mv(temperature_c) * torch.log(ratio)


def membrane_slope(
    potential_mv: Tensor,
    conductance: Tensor,
    reversal_mv: Tensor,
    *,
    capacitance: float | Tensor = 1.0,
    current: float | Tensor = 0.0,
) -> Tensor:
    """Give ``dV/dt = (current - sum of conductance * (V - reversal)) / capacitance``.

    Eq. 3 of the review, with what it leaves out: the injected ``current``, of which only the text before it speaks.
    Its third branch is chloride where Hodgkin and Huxley have a leak; a leak is one more entry here. It takes the
    potential of eq. 2 for the one of eq. 3, but the circuit rests at `chord_potential_mv`, which only comes near it.
    And it says that a spike changes concentrations; it changes conductances: see `concentration_change`.

    Args:
        potential_mv: (...) mV.
        conductance: (..., branches) mS/cm2, >= 0.
        reversal_mv: (..., branches) mV at which a branch carries no current.
        capacitance: (...) uF/cm2, > 0.
        current: (...) uA/cm2, inward (it depolarises) if > 0.

    Returns:
        (...) mV/ms.

    Source:
        Hodgkin and Huxley, J. Physiol. 1952, 10.1113/jphysiol.1952.sp004764; the review, eq. 3.
    """
    outward = (conductance * (potential_mv[..., None] - reversal_mv)).sum(-1)
    return (current - outward) / capacitance


def chord_potential_mv(conductance: Tensor, reversal_mv: Tensor, *, current: float | Tensor = 0.0) -> Tensor:
    """Give the potential at which a membrane of constant conductances rests: the mean reversal, by conductance.

    Args:
        conductance: (..., branches) mS/cm2, >= 0, not all 0.
        reversal_mv: (..., branches) mV.
        current: (...) uA/cm2, injected.

    Returns:
        (...) mV.
    """
    return ((conductance * reversal_mv).sum(-1) + current) / conductance.sum(-1)


def passive_potential_mv(
    time_ms: Tensor,
    start_mv: Tensor,
    conductance: Tensor,
    reversal_mv: Tensor,
    *,
    capacitance: float | Tensor = 1.0,
    current: float | Tensor = 0.0,
) -> Tensor:
    """Solve `membrane_slope` for constant conductances and current, exactly: an exponential to the chord potential.

    Args:
        time_ms: (...) ms since the start.
        start_mv: (...) mV at time 0.
        conductance: As for `membrane_slope`, as all that follow.
        reversal_mv: mV.
        capacitance: uF/cm2.
        current: uA/cm2.

    Returns:
        (...) mV.
    """
    rest_mv = chord_potential_mv(conductance, reversal_mv, current=current)
    return rest_mv + (start_mv - rest_mv) * torch.exp(-time_ms * conductance.sum(-1) / capacitance)


def concentration_change(
    potential_change_mv: float, diameter_um: float, *, capacitance: float = 1.0, overlap: float = 1.0
) -> float:
    """Give how much the concentration in an axon changes when ions of one charge move its potential.

    It is next to nothing, so that a spike is not a change of concentrations: a few parts in a million for the giant
    axon of the squid, a few in a thousand for one of a thousandth of a millimetre.

    Args:
        potential_change_mv: mV by which the membrane is charged.
        diameter_um: Of the axon, um, > 0.
        capacitance: uF/cm2.
        overlap: How many times the charge goes through, as other ions go the other way meanwhile; about 4 for the
            sodium of a spike of the squid.

    Returns:
        mM.

    Source:
        The overlap: Attwell and Laughlin, J. Cereb. Blood Flow Metab. 21, 2001.
    """
    pmol_per_cm2 = overlap * capacitance * potential_change_mv / FARADAY_CONSTANT * 1e3
    return pmol_per_cm2 * 4 / diameter_um * 1e-2
