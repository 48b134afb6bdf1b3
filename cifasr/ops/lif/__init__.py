"""Leaky integrate-and-fire: a current in, binary spikes and the membrane out, whole or as a stream."""

from cifasr.ops.lif.interface import lif
from cifasr.ops.lif.output import LifOutput, Reset
from cifasr.ops.lif.surrogate import ATan, FastSigmoid, Rect, Sigmoid, Surrogate

__all__ = ["ATan", "FastSigmoid", "LifOutput", "Rect", "Reset", "Sigmoid", "Surrogate", "lif"]
