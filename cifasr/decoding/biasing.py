"""What may favour tokens while a stream is decoded: a small interface, and the plainest of its kind."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from cifasr.nn.state import State


class Biasing(Protocol):
    """Favours tokens. It remembers nothing itself: state is handed in and out, a row for each of K hypotheses."""

    def begin(self) -> State:
        """Make the state of a segment in which nothing was written yet, for one hypothesis."""

    def bonus(self, state: State, hidden: Tensor) -> Tensor:
        """Say how much to favour each token.

        Args:
            state: Of K hypotheses.
            hidden: (K, D), what the decoder reads the next token from.

        Returns:
            (K, V) float64, or what expands to it, added to natural logarithms of probabilities.
        """

    def follow(self, state: State, parent: Tensor, token: Tensor, given: Tensor) -> State:
        """Go on from tokens that were chosen.

        Args:
            state: Before them.
            parent: (K',) int64, which hypothesis each goes on from.
            token: (K',) int64.
            given: (K',) float64, the bonus that each had.
        """


class Unbiased:
    """Favours nothing."""

    def begin(self) -> State:
        """Begin with nothing to remember."""
        return {}

    def bonus(self, state: State, hidden: Tensor) -> Tensor:
        """Give nothing."""
        return torch.zeros(1, 1, dtype=torch.float64)

    def follow(self, state: State, parent: Tensor, token: Tensor, given: Tensor) -> State:
        """Remember nothing."""
        return state


class Dictation:
    """Lets the decoder write one text and nothing else, and keeps what each of its tokens was read from.

    A firing is asked for a token as always, and "nothing" is no token, so that each token of the text gets a firing
    of its own without an alignment. What is said after the text is written freely.

    Args:
        token_ids: The text.
        vocab_size: V.
    """

    def __init__(self, token_ids: Sequence[int], vocab_size: int) -> None:
        self.hidden: list[Tensor] = []
        self._token_ids = token_ids
        self._vocab_size = vocab_size

    def begin(self) -> State:
        """Begin before the first token."""
        return {"place": torch.zeros(1, dtype=torch.int64)}

    def bonus(self, state: State, hidden: Tensor) -> Tensor:
        """Forbid all but the text's next token."""
        place = int(state["place"])
        if place >= len(self._token_ids):
            return torch.zeros(1, self._vocab_size, dtype=torch.float64)
        self.hidden.append(hidden[0])
        bonus = torch.full((1, self._vocab_size), -torch.inf, dtype=torch.float64)
        bonus[:, self._token_ids[place]] = 0.0
        return bonus

    def follow(self, state: State, parent: Tensor, token: Tensor, given: Tensor) -> State:
        """Go on to the text's next token."""
        return {"place": state["place"] + 1}
