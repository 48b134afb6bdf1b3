"""The squid's giant axon of Hodgkin and Huxley: four equations from which an action potential comes.

A state is (..., 4): the potential in mV, and how far the gates m, h and n are open, each 0 to 1. Batches are what is
in front of the 4. All is differentiable: by state, by current, and by every constant that is given as a tensor.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cifasr.spiking.biophysics import membrane_slope

Constant = float | Tensor


@dataclass(frozen=True)
class HodgkinHuxley:
    """Constants of the membrane, and its equations.

    ::

        C V' = I - g_na m**3 h (V - e_na) - g_k n**4 (V - e_k) - g_leak (V - e_leak)
        x'   = q (a_x(V) (1 - x) - b_x(V) x)      for each gate x of m, h, n;  q = 3**((temperature_c - 6.3) / 10)

    Attributes:
        capacitance: C, uF/cm2.
        g_na: Sodium conductance with all gates open, mS/cm2; (...) as all constants if it is a tensor.
        g_k: The same for potassium.
        g_leak: Conductance of the leak.
        e_na: Reversal potential of sodium, mV.
        e_k: Of potassium.
        e_leak: Of the leak.
        temperature_c: Degrees Celsius; warmth speeds the gates.

    Source:
        Hodgkin and Huxley, J. Physiol. 1952, 10.1113/jphysiol.1952.sp004764, with the potential as it is written
        today: inside minus outside, 65 mV lower. The review (J. Hu) names them but gives no equations.
    """

    capacitance: Constant = 1.0
    g_na: Constant = 120.0
    g_k: Constant = 36.0
    g_leak: Constant = 0.3
    e_na: Constant = 50.0
    e_k: Constant = -77.0
    e_leak: Constant = -54.387
    temperature_c: Constant = 6.3

    def slope(self, state: Tensor, current: Tensor | float) -> Tensor:
        """Give the time derivative of a state.

        Args:
            state: (..., 4).
            current: (...) uA/cm2.

        Returns:
            (..., 4) per ms.
        """
        return self._slope(state, current, self._reversal_mv(state))

    def _slope(self, state: Tensor, current: Tensor | float, reversal_mv: Tensor) -> Tensor:
        potential_mv, gates = state[..., 0], state[..., 1:]
        opening, closing = gate_rates(potential_mv)
        speed = 3 ** ((self.temperature_c - 6.3) / 10)
        speed = speed[..., None] if isinstance(speed, Tensor) else speed
        gates_slope = speed * (opening - (opening + closing) * gates)
        potential_slope = membrane_slope(
            potential_mv, self.conductance(gates), reversal_mv, capacitance=self.capacitance, current=current
        )
        return torch.cat([potential_slope[..., None], gates_slope], -1)

    def conductance(self, gates: Tensor) -> Tensor:
        """Give the conductances of sodium, potassium and leak, (..., 3) mS/cm2, for gates m, h, n, (..., 3)."""
        m, h, n = gates.unbind(-1)
        open_na, open_k = m * m * m * h, (n * n).square()
        return torch.stack([self.g_na * open_na, self.g_k * open_k, self.g_leak * torch.ones_like(n)], -1)

    def steady_state(self, potential_mv: Tensor) -> Tensor:
        """Give the state, (..., 4), in which gates have settled at a potential that is held, (...) mV."""
        opening, closing = gate_rates(potential_mv)
        return torch.cat([potential_mv[..., None], opening / (opening + closing)], -1)

    def holding_current(self, potential_mv: Tensor) -> Tensor:
        """Give the current, (...) uA/cm2, that holds the membrane at a potential, (...) mV, for ever."""
        state = self.steady_state(potential_mv)
        return -membrane_slope(potential_mv, self.conductance(state[..., 1:]), self._reversal_mv(state))

    def rest(self, current: Tensor) -> Tensor:
        """Find the state in which nothing changes, stable or not, by bisection: `holding_current` rises throughout.

        Args:
            current: (...) float64, uA/cm2, as a potential of -500 to 100 mV can hold it: -130 to 6000 with the
                squid's constants.

        Returns:
            (..., 4), without a gradient.

        Raises:
            ValueError: A current is out of that range.
        """
        with torch.no_grad():
            shape = self.holding_current(torch.zeros_like(current))  # constants may be a batch too
            low, high = torch.full_like(shape, -500.0), torch.full_like(shape, 100.0)
            if not bool(((self.holding_current(low) < current) & (current < self.holding_current(high))).all()):
                raise ValueError(f"current: got {current.tolist()}, wanted what -500 to 100 mV can hold")
            for _ in range(64):  # after so many halves nothing is left of the interval in float64
                middle = (low + high) / 2
                is_below = self.holding_current(middle) < current
                low, high = torch.where(is_below, middle, low), torch.where(is_below, high, middle)
            return self.steady_state((low + high) / 2)

    def run(self, current: Tensor, *, step_ms: float, state: Tensor | None = None) -> Tensor:
        """Follow the equations with the classical Runge-Kutta method of fourth order.

        Args:
            current: (..., T) uA/cm2, constant over each step; float64 unless you know better.
            step_ms: ms, > 0; 0.05 gives rates to four digits, and at 0.1 the method explodes in a spike.
            state: (..., 4) at the start, from an earlier run; None is `rest` without current.

        Returns:
            (..., T, 4): the states after each step. The last goes on.

        Raises:
            ValueError: ``step_ms`` is not positive.
        """
        if not step_ms > 0:
            raise ValueError(f"step_ms: got {step_ms}, wanted > 0")
        x = self.rest(torch.zeros_like(current[..., 0])) if state is None else state
        reversal_mv = self._reversal_mv(x)
        states = []
        for current_t in current.unbind(-1):
            k1 = self._slope(x, current_t, reversal_mv)
            k2 = self._slope(x + step_ms / 2 * k1, current_t, reversal_mv)
            k3 = self._slope(x + step_ms / 2 * k2, current_t, reversal_mv)
            k4 = self._slope(x + step_ms * k3, current_t, reversal_mv)
            x = x + step_ms / 6 * (k1 + 2 * (k2 + k3) + k4)
            states.append(x)
        return torch.stack(states, -2)

    def _reversal_mv(self, like: Tensor) -> Tensor:
        constants = (self.e_na, self.e_k, self.e_leak)
        reversals = [torch.as_tensor(e, dtype=like.dtype, device=like.device) for e in constants]
        return torch.stack(torch.broadcast_tensors(*reversals), -1)  # type: ignore[no-untyped-call]


def gate_rates(potential_mv: Tensor) -> tuple[Tensor, Tensor]:
    """Give how fast the gates m, h, n open and close at 6.3 degrees, both (..., 3) per ms, at a potential (...) mV.

    At -40 and -55 mV two of the formulas are 0 / 0; there too the value is the limit, and so is the derivative.

    Source:
        As for `HodgkinHuxley`: eq. 20, 21 for m, 23, 24 for h, 12, 13 for n.
    """
    v = potential_mv
    a_m, a_n = _linoid(torch.stack([v + 40, v + 55]) / 10)
    a_h, b_m, b_n = torch.exp(torch.stack([(v + 65) / -20, (v + 65) / -18, (v + 65) / -80]))
    b_h = torch.sigmoid((v + 35) / 10)
    return torch.stack([a_m, 0.07 * a_h, 0.1 * a_n], -1), torch.stack([4 * b_m, b_h, 0.125 * b_n], -1)


def _linoid(x: Tensor) -> Tensor:
    """Give ``x / (1 - exp(-x))``, near 0 by its series, whose next term is below float64's rounding."""
    is_near_zero = x.abs() < 1e-4
    elsewhere = torch.where(is_near_zero, 1.0, x)  # or the derivative of the branch not taken would be NaN
    return torch.where(is_near_zero, 1 + x / 2 + x * x / 12, elsewhere / -torch.expm1(-elsewhere))


def spike_times_ms(potential_mv: Tensor, *, step_ms: float, level_mv: float = 0.0) -> Tensor:
    """Find when a potential rises through a level, between steps by a straight line.

    Args:
        potential_mv: (T,) mV, at the ends of steps, as `HodgkinHuxley.run` gives it.
        step_ms: ms.
        level_mv: mV. Under a strong current (100 uA/cm2) the squid's axon fires without reaching 0.

    Returns:
        (spikes,) ms since the start.
    """
    before, after = potential_mv[:-1], potential_mv[1:]
    (step,) = torch.nonzero((before < level_mv) & (after >= level_mv), as_tuple=True)
    fraction = (level_mv - before[step]) / (after[step] - before[step])
    return (step + 1 + fraction) * step_ms
