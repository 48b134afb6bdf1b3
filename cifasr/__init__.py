"""Streaming speech recognition with an integrate-and-fire neuron between sound and text."""
