"""What a network's layers compute and move, counted while it runs, and the energy that a model gives it.

Counted as NeuroBench does (arXiv:2304.04640): an operation counts where neither weight nor input is 0; it is a
multiplication with an addition (MAC), or for binary inputs an addition (AC). Norms and smooth activations are left
out, as there; products of attention are in. Nothing here measures energy. The constants say what operations cost on
one chip of 2014, and a processor that runs dense kernels saves nothing where an input is 0.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from cifasr.spiking.activation import EventActivation, SpikeCount

BYTE_PJ = 24.96
"""Of moving a byte between memory and arithmetic: 3.12 pJ a bit, as in SpikingJelly 2.0.0's account of energy."""

_STATE_BYTES = 4
_ADD_PJ = 0.9  # of float32, as in `NumberFormat`


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """What numbers of a format take.

    Attributes:
        mac_pj: Of a multiplication with an addition.
        ac_pj: Of an addition.
        num_bytes: Of a weight, and of a value between layers.

    Source:
        Horowitz, "Computing's energy problem", ISSCC 2014, 45 nm: a float32 product 3.7 and sum 0.9 pJ, an int8 product
        0.2 and sum 0.03 pJ.
    """

    mac_pj: float
    ac_pj: float
    num_bytes: int


FLOAT32 = NumberFormat(4.6, 0.9, 4)
INT8 = NumberFormat(0.23, 0.03, 1)


@dataclass(frozen=True, slots=True)
class Account:
    """What was computed and moved.

    Attributes:
        macs: Multiplications with an addition, neither factor 0.
        acs: Additions of a weight for a spike.
        membrane_updates: Steps of neurons.
        weights: Weights read: those that some row of a call needs, once a call.
        values: Numbers read and written between layers.
        bits: Spikes read and written, and for cut values the bits that say which are there.
        states: Membranes read and written, if each step of a neuron finds its membrane in memory.
    """

    macs: float = 0
    acs: float = 0
    membrane_updates: float = 0
    weights: float = 0
    values: float = 0
    bits: float = 0
    states: float = 0

    def __add__(self, other: "Account") -> "Account":
        """Add up two accounts."""
        return Account(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def scaled(self, factor: float) -> "Account":
        """Give the account of ``factor`` times as much."""
        return Account(*(factor * getattr(self, field.name) for field in fields(self)))

    def moved_bytes(self, numbers: NumberFormat) -> float:
        """Count the bytes moved; membranes have 32 bits in every format."""
        return (self.weights + self.values) * numbers.num_bytes + self.bits / 8 + self.states * _STATE_BYTES

    def arithmetic_pj(self, numbers: NumberFormat) -> float:
        """Model the energy of the operations alone."""
        return self.macs * numbers.mac_pj + self.acs * numbers.ac_pj + self.membrane_updates * _ADD_PJ

    def energy_pj(self, numbers: NumberFormat) -> float:
        """Model the energy of operations and of what is moved for them."""
        return self.arithmetic_pj(numbers) + self.moved_bytes(numbers) * BYTE_PJ


@runtime_checkable
class _Multiplies(Protocol):
    """A layer that multiplies its inputs with each other, as attention does."""

    def num_products(self, *inputs: Any) -> tuple[int, int]:  # noqa: ANN401 - those of its call
        """Count the products of a call, and the values read for them."""


class Meter:
    """Adds up the accounts of a run, of the network as it is and of two others that would do the same.

    Attributes:
        as_built: The network as it is.
        same_zeros: With values in place of spikes, 0 where no spike is: a thresholded ReLU of the same silence.
        dense: With a value for every input, 0 or not.
    """

    def __init__(self) -> None:
        self.as_built = self.same_zeros = self.dense = Account()
        self._events: tuple[Tensor, EventActivation] | None = None

    @contextmanager
    def watching(self, module: nn.Module) -> Iterator[None]:
        """Count what the layers in a module do while the context lasts."""
        hooks = [layer.register_forward_hook(self._count) for layer in module.modules()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _count(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401 - any layer's
        if isinstance(layer, EventActivation):
            self._events = (output, layer)
            not_written = Account(values=-output.numel())  # the layer before hands currents on, and events are kept
            self.as_built += not_written
            self.same_zeros += not_written
            if isinstance(layer, SpikeCount):
                steps = output.numel() * layer.num_steps
                self.as_built += Account(membrane_updates=steps, states=2 * steps)
        elif isinstance(layer, nn.Linear):
            self._count_linear(layer, inputs[0], output)
        elif isinstance(layer, nn.Conv1d | nn.Conv2d):
            self._add_to_all(_convolution(layer, inputs[0], output))
        elif isinstance(layer, _Multiplies):
            macs, values = layer.num_products(*inputs)
            self._add_to_all(Account(macs=macs, values=values))

    def _count_linear(self, layer: nn.Linear, x: Tensor, output: Tensor) -> None:
        rows = x.flatten(0, -2)
        needed = (layer.weight != 0).sum(0).double()  # (I,) weights that an input meets
        active = (rows != 0).sum(0).double()
        macs, read = float(active @ needed), float((active > 0).double() @ needed)
        dense = Account(macs=float(needed.sum()) * len(rows), weights=float(needed.sum()), values=output.numel())
        self.dense += dense + Account(values=x.numel())
        if self._events is None or self._events[0] is not x:
            effective = Account(macs=macs, weights=read, values=x.numel() + output.numel())
            self.as_built += effective
            self.same_zeros += effective
            return
        source, num_events = self._events[1], float(active.sum())
        cut = Account(macs=macs, weights=read, values=2 * num_events + output.numel(), bits=2 * x.numel())
        self.same_zeros += cut
        if isinstance(source, SpikeCount):
            spikes = source.counts(rows).sum(0).double()
            bits = 2 * x.numel() * source.num_steps
            self.as_built += Account(acs=float(spikes @ needed), weights=read, values=output.numel(), bits=bits)
        else:
            self.as_built += cut

    def _add_to_all(self, account: Account) -> None:
        self.as_built += account
        self.same_zeros += account
        self.dense += account


def _convolution(layer: nn.Conv1d | nn.Conv2d, x: Tensor, output: Tensor) -> Account:
    """Count a convolution, whose inputs are features and smooth values and never 0 by design."""
    needed = int((layer.weight != 0).sum())
    places = output.numel() / output.shape[1]  # each runs the whole kernel once
    return Account(macs=needed * places, weights=needed, values=x.numel() + output.numel())
