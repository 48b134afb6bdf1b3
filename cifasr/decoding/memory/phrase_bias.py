"""Taught phrases while a stream is decoded: a token is favoured where its key is recognised and its phrase goes on."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cifasr.nn.state import State

_NONE = -1
"""Fills up the rows of shorter prefixes."""


class PhraseBias:
    """Favours the tokens of phrases whose keys are recognised.

    A hypothesis is at most within one phrase. The first token of any phrase may come at any time; the next ones only
    where the phrase's tokens so far were written. A phrase that breaks pays back what its tokens were given, so that
    its beginning wins nothing by itself; with one hypothesis that holds it to a phrase once begun, as far as the bonus
    reaches.

    Args:
        phrases: Token ids of each entry's phrase.
        places: Which of these tokens each entry stands for.
        recognise: (K, D) hidden states to (K, N), how well each entry is recognised.
        least_scores: (N,) that a score must reach.
        boost: Given to a token that is recognised, a natural logarithm.
        vocab_size: V.
    """

    def __init__(
        self,
        phrases: Sequence[tuple[int, ...]],
        places: Sequence[int],
        recognise: Callable[[Tensor], Tensor],
        *,
        least_scores: Tensor,
        boost: float,
        vocab_size: int,
    ) -> None:
        self._recognise = recognise
        self._least_scores = least_scores
        self._boost = boost
        self._vocab_size = vocab_size
        self._next_tokens = torch.tensor([ids[place] for ids, place in zip(phrases, places, strict=True)])
        self._whole = set(phrases)
        self._longest = max(map(len, phrases), default=0)
        following: dict[tuple[int, ...], list[int]] = {}
        for entry, (ids, place) in enumerate(zip(phrases, places, strict=True)):
            following.setdefault(ids[:place], []).append(entry)
        self._following = {prefix: torch.tensor(entries) for prefix, entries in following.items()}

    def begin(self) -> State:
        """Begin outside of any phrase."""
        return self._state([()], torch.zeros(1, dtype=torch.float64))

    def bonus(self, state: State, hidden: Tensor) -> Tensor:
        """Favour what goes on or begins here, and take back what a break costs; see `Biasing`."""
        spent = state["spent"]
        bonus = -spent[:, None].repeat(1, self._vocab_size)
        if not self._following:
            return bonus
        fits = self._recognise(hidden) >= self._least_scores
        for row, prefix in enumerate(self._prefixes(state)):
            if prefix in self._following and prefix:
                going_on = self._following[prefix]
                bonus[row, self._next_tokens[going_on]] = 0.0
                bonus[row, self._next_tokens[going_on[fits[row, going_on]]]] = self._boost
            starting = self._following[()]
            tokens = self._next_tokens[starting[fits[row, starting]]]
            bonus[row, tokens] = bonus[row, tokens].clamp_min(float(self._boost - spent[row]))
        return bonus

    def follow(self, state: State, parent: Tensor, token: Tensor, given: Tensor) -> State:
        """Go on in the phrase, begin one, or leave it; see `Biasing`."""
        old = self._prefixes(state)
        prefixes = []
        for row, token_id in zip(parent.tolist(), token.tolist(), strict=True):
            longer = (*old[row], token_id)
            prefixes.append(next((p for p in (longer, (token_id,)) if p in self._following or p in self._whole), ()))
        spent = state["spent"][parent] + given
        inside = torch.tensor([bool(prefix) and prefix not in self._whole for prefix in prefixes])
        return self._state(prefixes, torch.where(inside, spent, 0.0))

    def _state(self, prefixes: Sequence[tuple[int, ...]], spent: Tensor) -> State:
        padded = [[*prefix, *[_NONE] * (self._longest - len(prefix))] for prefix in prefixes]
        return {"prefixes": torch.tensor(padded, dtype=torch.int64).view(len(prefixes), -1), "spent": spent}

    def _prefixes(self, state: State) -> list[tuple[int, ...]]:
        return [tuple(token for token in row if token != _NONE) for row in state["prefixes"].tolist()]
