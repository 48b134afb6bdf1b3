"""Spiking neurons: from the membrane's physics to layers that a network trains."""
