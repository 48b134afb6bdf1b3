"""Operators: each one defined once in plain PyTorch, and fast forms that are compared with it."""
