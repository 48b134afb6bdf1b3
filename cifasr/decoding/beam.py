"""Beam search over firings: the decoder is asked once a firing, and what is written never changes.

All hypotheses of a segment have answered the same firings and have the same number of tokens, so they are one batch to
the decoder. What they agree on is written; with a beam of one, greedy decoding, that is everything at once.
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from cifasr.decoding.biasing import Biasing, Unbiased
from cifasr.decoding.spelling import Spelling, nothing_written
from cifasr.decoding.window import Window
from cifasr.models.cif_asr import CifAsr
from cifasr.nn.state import State, merged, scoped

_MAX_UNASKED = 32
"""Tokens that the end of a segment may bring beyond the firings; more would be a decoder that does not stop."""

_CANDIDATES = 12
"""Tokens of each hypothesis whose spelling is looked at, at least."""

_MAX_OPEN = 16
"""Tokens on which hypotheses may differ; the best hypothesis decides about older ones."""


class Firing(NamedTuple):
    """What the neuron says of a token.

    Attributes:
        embedding: (D,) what it fired.
        start_frame: Where the token began, in frames of the segment.
        fire_frame: Frame of the firing.
    """

    embedding: Tensor
    start_frame: float
    fire_frame: int


@dataclass
class _Beam:
    """Hypotheses of one segment, the likeliest first.

    Attributes:
        log_probs: (K,) float64, natural logarithms of their probabilities, with what favoured them.
        tokens: (K, n) int64, those not written yet.
        confidences: (K, n) float64, the probability of each.
        pending: (K, p) int64, written into the hypotheses and not yet in the decoder's state.
        decoder_state: The decoder's, K streams.
        writing: (K, W) uint8, the last words of each, see `Spelling`.
        biasing_state: That of what favours tokens, K rows each; empty without it.
    """

    log_probs: Tensor
    tokens: Tensor
    confidences: Tensor
    pending: Tensor
    writing: Tensor
    decoder_state: State
    biasing_state: State

    def scored(self, log_prob: Tensor | float) -> "_Beam":
        """Add to the logarithms of their probabilities."""
        return replace(self, log_probs=self.log_probs + log_prob)

    def rows(self, chosen: Tensor | slice) -> "_Beam":
        """Choose hypotheses, by number, by a mask or as a slice."""
        return _Beam(
            **{name: value[chosen] for name, value in vars(self).items() if isinstance(value, Tensor)},
            decoder_state={name: value[chosen] for name, value in self.decoder_state.items()},
            biasing_state={name: value[chosen] for name, value in self.biasing_state.items()},
        )


class BeamWriter:
    """Writes the tokens of one segment.

    Args:
        model: The recogniser.
        chunk_frames: Frames of a chunk; the window is the model's and one chunk.
        max_history: Tokens that the decoder looks back on. A longer segment keeps only the last quarter of them and
            goes on, so that a stream may last for days.
        nothing_threshold: Probability of "nothing" above which nothing is written.
        beam_size: Hypotheses kept.
        biasing: Favours tokens.
        spelling: Tells words from misspellings.
    """

    def __init__(
        self,
        model: CifAsr,
        chunk_frames: int,
        max_history: int,
        nothing_threshold: float,
        beam_size: int,
        biasing: Biasing | None = None,
        spelling: Spelling | None = None,
    ) -> None:
        self._model = model
        self._biasing = biasing or Unbiased()
        self._spelling = spelling
        # A word that is spelled right may be far behind.
        self._num_candidates = beam_size if spelling is None else max(beam_size, _CANDIDATES)
        self._nothing_threshold = nothing_threshold
        self._beam_size = beam_size
        self._window = Window(model, model.window_frames + chunk_frames)
        self._max_history = max_history
        self._kept_history = max(1, max_history // 4)
        control = {0, model.tokenizer.start_id, *model.tokenizer.prompt_ids}
        self._forbidden = torch.tensor(sorted(control))
        self._beam = _Beam(
            log_probs=torch.zeros(1, dtype=torch.float64),
            tokens=torch.zeros(1, 0, dtype=torch.int64),
            confidences=torch.zeros(1, 0, dtype=torch.float64),
            pending=torch.tensor([model.tokenizer.prompt_ids]),
            writing=nothing_written(),
            decoder_state=model.decoder.init_state(),
            biasing_state=self._biasing.begin(),
        )
        self._firings: list[tuple[float, int]] = []  # start and frame of every token, the open ones too
        self.token_ids: list[int] = []
        self.confidences: list[float] = []
        self.num_firings = 0
        self.num_calls = 0

    @property
    def start_frames(self) -> list[float]:
        """Where each token written began."""
        return [start for start, _ in self._firings[: len(self.token_ids)]]

    @property
    def fire_frames(self) -> list[int]:
        """The frame at which each token written fired."""
        return [frame for _, frame in self._firings[: len(self.token_ids)]]

    @property
    def last_frame(self) -> int:
        """The frame of the last firing that brought a token, written or open; 0 before the first."""
        return self._firings[-1][1] if self._firings else 0

    @property
    def has_text(self) -> bool:
        """Whether any token was found, written or open."""
        return bool(self._firings)

    def see(self, encoder_out: Tensor, ahead: Tensor) -> None:
        """Move the window on.

        Args:
            encoder_out: (1, n, D), the frames of the chunk just heard.
            ahead: (1, m, D), what is known of those that follow; seen until the next chunk brings them again.
        """
        self._window.move(encoder_out, ahead)

    def fire(self, firing: Firing) -> None:
        """Ask what a firing means."""
        self.num_firings += 1
        grown, _ = self._asked(self._beam, firing.embedding, self._beam_size)
        if grown is not None:
            self._beam = grown
            self._firings.append((firing.start_frame, firing.fire_frame))
        self._write_agreed()

    def flush(self, last_frame: int) -> None:
        """At the end of a segment ask on for what firings missed, and write the likeliest hypothesis.

        What lies ahead belongs to the next segment.

        Args:
            last_frame: The segment's.
        """
        self._window.end()
        best, num_found = self._ended(self._beam.rows(slice(0, 1)))
        for k in range(1, len(self._beam.log_probs)):
            if self._beam.log_probs[k] <= best.log_probs:
                break  # what they have not said yet would hardly make this one and those after it likelier
            ended, num_more = self._ended(self._beam.rows(slice(k, k + 1)))
            if ended.log_probs > best.log_probs:
                best, num_found = ended, num_more
        self._beam = best
        self._firings += [(float(self.last_frame), last_frame)] * num_found
        self._write(self._beam.tokens.shape[1])

    def _ended(self, beam: _Beam) -> tuple[_Beam, int]:
        """Let one hypothesis say all that it has not said yet, and that there is no more.

        It may have needed more tokens than others for the same words, so that these have said all and it has not.

        Returns:
            It with the likeliest number of tokens that no firing told, which may be less than were found; and how many.
        """
        best, num_best = beam, 0
        # Without a window there is nothing to hear but firings.
        if self._model.window_frames:
            nothing_fired = torch.zeros(self._model.config.encoder.d_model)
            likeliest, log_going_on = -math.inf, 0.0
            for num_found in range(_MAX_UNASKED):
                grown, nothing = self._asked(beam, nothing_fired, 1)
                log_nothing = math.log(max(nothing, 1e-12))
                if log_going_on + log_nothing > likeliest:
                    best, num_best, likeliest = beam.scored(log_nothing), num_found, log_going_on + log_nothing
                log_going_on += math.log(max(1 - nothing, 1e-12))
                if grown is None or log_going_on <= likeliest:
                    break
                beam = grown
        return (best if self._spelling is None else best.scored(self._spelling.end(best.writing))), num_best

    def state(self) -> State:
        """Take the state out."""
        written = {
            "token_ids": torch.tensor(self.token_ids, dtype=torch.int64),
            "confidences": torch.tensor(self.confidences, dtype=torch.float64),
            "starts": torch.tensor([start for start, _ in self._firings], dtype=torch.float64),
            "frames": torch.tensor([frame for _, frame in self._firings], dtype=torch.int64),
            "counts": torch.tensor([self.num_firings, self.num_calls]),
        }
        beam = {name: value for name, value in vars(self._beam).items() if isinstance(value, Tensor)}
        states = {"decoder": self._beam.decoder_state, "biasing": self._beam.biasing_state}
        return merged(states | {"written": written, "beam": beam, "window": self._window.state()})

    def restore(self, state: State) -> None:
        """Put a state back in."""
        written = scoped(state, "written")
        self._window.restore(scoped(state, "window"))
        self._beam = _Beam(
            **scoped(state, "beam"), decoder_state=scoped(state, "decoder"), biasing_state=scoped(state, "biasing")
        )
        self.token_ids = written["token_ids"].tolist()
        self.confidences = written["confidences"].tolist()
        self._firings = list(zip(written["starts"].tolist(), written["frames"].tolist(), strict=True))
        self.num_firings, self.num_calls = written["counts"].tolist()

    def _asked(self, beam: _Beam, embedding: Tensor, num_kept: int) -> tuple[_Beam | None, float]:
        """Ask hypotheses for the next token.

        Args:
            beam: The hypotheses.
            embedding: (D,) what the neuron fired, zeros if it did not.
            num_kept: How many to keep.

        Returns:
            What they go on with, at most so many, the likeliest first; None if that is nothing. How likely that is.
        """
        self.num_calls += 1
        beam, nothing_id = self._bounded(beam), self._model.tokenizer.nothing_id
        fired = torch.zeros(*beam.pending.shape, len(embedding))
        fired[:, -1] = embedding
        hidden, state = self._model.decoder.advance(beam.pending, beam.decoder_state, self._window.frames, fired)
        logits = self._model.decoder.logits(hidden)
        logits[:, self._forbidden] = -torch.inf
        log_probs = torch.log_softmax(logits.double(), dim=-1)
        # First whether there is a token at all, then which: where many are possible, "nothing" may lead them all and
        # still be unlikely, and a decoder that stays silent there has nothing new to go on from.
        nothing = float(torch.softmax(beam.log_probs, dim=0) @ log_probs[:, nothing_id].exp())
        if nothing > self._nothing_threshold:
            return None, nothing  # the state stays as it was: "nothing" is not part of the history
        log_probs[:, nothing_id] = -torch.inf
        bonus = self._biasing.bonus(beam.biasing_state, hidden).expand_as(log_probs)
        parent, token, total = self._best(beam, log_probs + bonus, num_kept)
        writing = beam.writing[parent]
        grown = _Beam(
            log_probs=total,
            tokens=torch.cat([beam.tokens[parent], token[:, None]], dim=1),
            confidences=torch.cat([beam.confidences[parent], log_probs[parent, token].exp()[:, None]], dim=1),
            pending=token[:, None],
            writing=writing if self._spelling is None else self._spelling.follow(writing, token),
            decoder_state={name: value[parent] for name, value in state.items()},
            biasing_state=self._biasing.follow(beam.biasing_state, parent, token, bonus[parent, token]),
        )
        return grown, nothing

    def _best(self, beam: _Beam, scores: Tensor, num_kept: int) -> tuple[Tensor, Tensor, Tensor]:
        """Choose what hypotheses go on with.

        Args:
            beam: K hypotheses.
            scores: (K, V) float64, of tokens after each.
            num_kept: How many to choose, k.

        Returns:
            parent, token: (k,) int64.
            total: (k,) float64, of the hypotheses that they make, the best first.
        """
        num_candidates = min(self._num_candidates, scores.shape[1])
        scores, tokens = scores.topk(num_candidates)
        if self._spelling is not None:
            scores = scores + self._spelling.score(beam.writing, tokens)
        total, place = (beam.log_probs[:, None] + scores).flatten().topk(num_kept)
        return place // num_candidates, tokens.flatten()[place], total

    def _write_agreed(self) -> None:
        """Write the tokens that all hypotheses share, and give up those that contradict the best about old ones."""
        beam = self._beam
        if (too_many := beam.tokens.shape[1] - _MAX_OPEN) > 0:
            kept = (beam.tokens[:, :too_many] == beam.tokens[0, :too_many]).all(1)
            self._beam = beam = beam.rows(kept)
        agreed = (beam.tokens == beam.tokens[0]).all(0)
        self._write(int(agreed.long().cumprod(0).sum()))

    def _write(self, num_tokens: int) -> None:
        """Write the first open tokens of the likeliest hypothesis."""
        beam = self._beam
        self.token_ids += beam.tokens[0, :num_tokens].tolist()
        self.confidences += beam.confidences[0, :num_tokens].tolist()
        beam.tokens, beam.confidences = beam.tokens[:, num_tokens:], beam.confidences[:, num_tokens:]

    def _bounded(self, beam: _Beam) -> _Beam:
        """Let the decoder look back on fewer tokens where there are too many for it."""
        if beam.decoder_state["0.keys"].shape[2] + beam.pending.shape[1] <= self._max_history:
            return beam
        num_hypotheses = beam.tokens.shape[0]
        written = torch.tensor([*self.token_ids[-self._kept_history :]], dtype=torch.int64)
        history = torch.cat([written.expand(num_hypotheses, -1), beam.tokens], dim=1)[:, -self._kept_history :]
        prompt = torch.tensor(self._model.tokenizer.prompt_ids).expand(num_hypotheses, -1)
        fresh = self._model.decoder.init_state()
        return replace(
            beam,
            pending=torch.cat([prompt, history], dim=1),
            decoder_state={name: value.expand(num_hypotheses, -1, -1, -1) for name, value in fresh.items()},
        )
