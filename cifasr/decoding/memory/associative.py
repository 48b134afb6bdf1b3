"""Associative memories behind one interface: keys in, and for a query how well each key is recognised.

An entry is what one key left behind. State is a dictionary of tensors, handed in and out, so that a stream goes on with
the memory it began with while somebody teaches the next word.
"""

from typing import Protocol

import torch
from torch import Tensor

from cifasr.cerebellum.hebbian import HebbianMemory
from cifasr.cerebellum.hopfield import modern_recall
from cifasr.cerebellum.mushroom_body import MushroomBody
from cifasr.nn.state import State


class AssociativeMemory(Protocol):
    """Knows keys again."""

    def begin(self, d_key: int) -> State:
        """Make the state that knows nothing."""

    def write(self, state: State, keys: Tensor) -> State:
        """Add an entry for each of ``keys``, (n, K) float32 of length 1, behind those that are there."""

    def scores(self, state: State, queries: Tensor) -> Tensor:
        """Compare ``queries`` (B, K) with the N entries: (B, N), 1 for a key as it was written, lower for others."""

    def keep(self, state: State, entries: Tensor) -> State:
        """Forget all but ``entries``, int64."""


class NearestNeighbour:
    """Keeps the keys; the score is the cosine. The exact baseline."""

    def begin(self, d_key: int) -> State:
        """Make the state that knows nothing."""
        return {"keys": torch.zeros(0, d_key, dtype=torch.float16)}

    def write(self, state: State, keys: Tensor) -> State:
        """Put the keys behind those that are there."""
        return {"keys": torch.cat([state["keys"], keys.half()])}

    def scores(self, state: State, queries: Tensor) -> Tensor:
        """Say the cosine with each."""
        return queries @ state["keys"].float().T

    def keep(self, state: State, entries: Tensor) -> State:
        """Forget all but some."""
        return {"keys": state["keys"][entries]}


class Hopfield(NearestNeighbour):
    """Keeps the keys; the query falls towards them before it is compared, so that one stands out or none does.

    Args:
        beta: Sharpness. Infinite, it is the nearest neighbour and nothing else.
    """

    def __init__(self, beta: float = 16.0) -> None:
        self._beta = beta

    def scores(self, state: State, queries: Tensor) -> Tensor:
        """Say how much of the query the recalled key is, times how near it is to each."""
        keys = state["keys"].float()
        if not len(keys):
            return queries @ keys.T
        recalled = modern_recall(keys, queries, self._beta)
        direction = torch.nn.functional.normalize(recalled, dim=1)
        return (queries * direction).sum(1, keepdim=True).clamp_min(0) * (direction @ keys.T)


class Mushroom:
    """Keeps the tag of each key: the Kenyon cells whose synapses onto the entry's own output one lesson depressed.

    After a lesson at the full rate a column of `MushroomBody` is 0 on the tag and 1 elsewhere, so the tag is all there
    is to keep, and the response's missing part is the share of the query's tag in it.

    Args:
        num_cells: Kenyon cells, at most 32768.
        num_claws: Inputs of each.
        num_active: Cells in a tag.
    """

    def __init__(self, num_cells: int = 8192, num_claws: int = 38, num_active: int = 164) -> None:
        self._sizes = {"num_cells": num_cells, "num_claws": num_claws, "num_active": num_active}
        self._bodies: dict[int, MushroomBody] = {}

    def begin(self, d_key: int) -> State:
        """Make the state that knows nothing."""
        return {"tags": torch.zeros(0, self._sizes["num_active"], dtype=torch.int16)}

    def write(self, state: State, keys: Tensor) -> State:
        """Depress one new column for each key."""
        return {"tags": torch.cat([state["tags"], self._body(keys).tag(keys).short()])}

    def scores(self, state: State, queries: Tensor) -> Tensor:
        """Say which share of the query's cells is depressed in each column."""
        answers = torch.zeros(len(queries), self._sizes["num_cells"])
        answers.scatter_(1, self._body(queries).tag(queries), 1.0)
        return answers[:, state["tags"].long()].mean(2)

    def keep(self, state: State, entries: Tensor) -> State:
        """Let all columns but some recover."""
        return {"tags": state["tags"][entries]}

    def _body(self, keys: Tensor) -> MushroomBody:
        """Grow the wiring once for each width; it is the same for ever."""
        d_key = keys.shape[1]
        if d_key not in self._bodies:
            sizes = self._sizes | {"num_claws": min(self._sizes["num_claws"], d_key)}
            self._bodies[d_key] = MushroomBody.grow(torch.Generator().manual_seed(0), num_inputs=d_key, **sizes)
        return self._bodies[d_key]


class GatedHebbian:
    """Writes each key against a value of its own; a new lesson also takes its key out of what older ones answer."""

    def __init__(self) -> None:
        self._rule = HebbianMemory()

    def begin(self, d_key: int) -> State:
        """Make the state that knows nothing."""
        return {"weights": self._rule.init_weights(1, d_key, 0)}

    def write(self, state: State, keys: Tensor) -> State:
        """Write one key after another, the gate open."""
        weights = state["weights"]
        for key in keys:
            weights = torch.nn.functional.pad(weights, (0, 1))
            value = torch.nn.functional.one_hot(torch.tensor([weights.shape[2] - 1]), weights.shape[2])
            weights = self._rule.write(weights, key[None], value.to(weights), torch.ones(1))
        return {"weights": weights}

    def scores(self, state: State, queries: Tensor) -> Tensor:
        """Read the value of each query."""
        return torch.einsum("kv,bk->bv", state["weights"][0], queries)

    def keep(self, state: State, entries: Tensor) -> State:
        """Forget the values of all but some."""
        return {"weights": state["weights"][:, :, entries]}


class Boosting:
    """Knows that there is an entry, nothing of its key: every query fits. Phrase boosting, the other baseline."""

    def begin(self, d_key: int) -> State:
        """Make the state that knows nothing."""
        return {"entries": torch.zeros(0, 0)}

    def write(self, state: State, keys: Tensor) -> State:
        """Count the keys."""
        return {"entries": torch.zeros(len(state["entries"]) + len(keys), 0)}

    def scores(self, state: State, queries: Tensor) -> Tensor:
        """Say that each fits."""
        return torch.ones(len(queries), len(state["entries"]))

    def keep(self, state: State, entries: Tensor) -> State:
        """Forget all but some."""
        return {"entries": state["entries"][entries]}
