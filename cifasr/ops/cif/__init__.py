"""Continuous Integrate-and-Fire: frames in, one embedding a token out, whole or as a stream."""

from cifasr.ops.cif.interface import cif
from cifasr.ops.cif.output import CifOutput
from cifasr.ops.cif.streaming import CifState, cif_flush, cif_stream

__all__ = ["CifOutput", "CifState", "cif", "cif_flush", "cif_stream"]
