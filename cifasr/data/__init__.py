"""Corpora to lhotse cuts, and cuts to tensors."""
