"""Beam search over firings: the decoder is asked once a firing, and what is written never changes.

All hypotheses of a segment have answered the same firings and have the same number of tokens, so they are one batch to
the decoder. What they agree on is written; with a beam of one, greedy decoding, that is everything at once.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from cifasr.models.cif_asr import CifAsr
from cifasr.nn.state import State, merged, scoped

_MAX_UNASKED = 32
"""Tokens that the end of a segment may bring beyond the firings; more would be a decoder that does not stop."""

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
        log_probs: (K,) float64, natural log relative to the likeliest.
        tokens: (K, n) int64, those not written yet.
        confidences: (K, n) float64, the probability of each.
        pending: (K, p) int64, written into the hypotheses and not yet in the decoder's state.
        decoder_state: The decoder's, K streams.
    """

    log_probs: Tensor
    tokens: Tensor
    confidences: Tensor
    pending: Tensor
    decoder_state: State


class BeamWriter:
    """Writes the tokens of one segment.

    Args:
        model: The recogniser.
        chunk_frames: Frames of a chunk; the window is the model's and one chunk.
        max_history: Tokens that the decoder looks back on. A longer segment keeps only the last quarter of them and
            goes on, so that a stream may last for days.
        nothing_threshold: Probability of "nothing" above which nothing is written.
        beam_size: Hypotheses kept.
    """

    def __init__(
        self, model: CifAsr, chunk_frames: int, max_history: int, nothing_threshold: float, beam_size: int
    ) -> None:
        self._model = model
        self._nothing_threshold = nothing_threshold
        self._beam_size = beam_size
        self._window_frames = model.window_frames + chunk_frames
        self._max_history = max_history
        self._kept_history = max(1, max_history // 4)
        self._memory = model.decoder.project_memory(torch.zeros(1, 0, model.config.encoder.d_model))
        control = {0, model.tokenizer.start_id, *model.tokenizer.prompt_ids}
        self._forbidden = torch.tensor(sorted(control))
        self._beam = _Beam(
            log_probs=torch.zeros(1, dtype=torch.float64),
            tokens=torch.zeros(1, 0, dtype=torch.int64),
            confidences=torch.zeros(1, 0, dtype=torch.float64),
            pending=torch.tensor([model.tokenizer.prompt_ids]),
            decoder_state=model.decoder.init_state(),
        )
        self._waiting: list[Firing] = []
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

    def see(self, encoder_out: Tensor) -> None:
        """Move the window on.

        Args:
            encoder_out: (1, n, D), the frames of the chunk just heard.
        """
        new = self._model.decoder.project_memory(encoder_out)
        self._memory = [
            None if old is None or add is None else (self._slide(old[0], add[0]), self._slide(old[1], add[1]))
            for old, add in zip(self._memory, new, strict=True)
        ]

    def fire(self, firing: Firing) -> None:
        """Note a firing; `answer` asks what it means."""
        self.num_firings += 1
        self._waiting.append(firing)

    def answer(self, before_frame: int) -> None:
        """Ask the decoder about the firings up to a frame, in their order."""
        while self._waiting and self._waiting[0].fire_frame < before_frame:
            self._ask(self._waiting.pop(0))

    def flush(self, last_frame: int) -> None:
        """At the end of a segment answer all firings, and ask on until "nothing": one that is missing loses nothing.

        Then the likeliest hypothesis is written.

        Args:
            last_frame: The segment's.
        """
        self.answer(last_frame + 1)
        silence = torch.zeros(self._model.config.encoder.d_model)
        # Without a window there is nothing to hear but firings.
        for _ in range(_MAX_UNASKED if self._model.window_frames else 0):
            if not self._ask(Firing(silence, float(self.last_frame), last_frame)):
                break
        self._write(self._beam.tokens.shape[1])

    def state(self) -> State:
        """Take the state out."""
        memory = {str(i): {"keys": kv[0], "values": kv[1]} for i, kv in enumerate(self._memory) if kv is not None}
        no_firings = torch.zeros(0, self._model.config.encoder.d_model)
        written = {
            "token_ids": torch.tensor(self.token_ids, dtype=torch.int64),
            "confidences": torch.tensor(self.confidences, dtype=torch.float64),
            "starts": torch.tensor([start for start, _ in self._firings], dtype=torch.float64),
            "frames": torch.tensor([frame for _, frame in self._firings], dtype=torch.int64),
            "counts": torch.tensor([self.num_firings, self.num_calls]),
            "waiting": torch.stack([firing.embedding for firing in self._waiting]) if self._waiting else no_firings,
            "waiting_starts": torch.tensor([firing.start_frame for firing in self._waiting], dtype=torch.float64),
            "waiting_frames": torch.tensor([firing.fire_frame for firing in self._waiting], dtype=torch.int64),
        }
        beam = {name: value for name, value in vars(self._beam).items() if isinstance(value, Tensor)}
        parts = {"memory": merged(memory), "decoder": self._beam.decoder_state, "written": written, "beam": beam}
        return merged(parts)

    def restore(self, state: State) -> None:
        """Put a state back in."""
        memory, written = scoped(state, "memory"), scoped(state, "written")
        self._memory = [
            None if kv is None else (memory[f"{i}.keys"], memory[f"{i}.values"]) for i, kv in enumerate(self._memory)
        ]
        self._beam = _Beam(**scoped(state, "beam"), decoder_state=scoped(state, "decoder"))
        self.token_ids = written["token_ids"].tolist()
        self.confidences = written["confidences"].tolist()
        self._firings = list(zip(written["starts"].tolist(), written["frames"].tolist(), strict=True))
        self.num_firings, self.num_calls = written["counts"].tolist()
        starts, frames = written["waiting_starts"].tolist(), written["waiting_frames"].tolist()
        self._waiting = [Firing(*firing) for firing in zip(written["waiting"], starts, frames, strict=True)]

    def _ask(self, firing: Firing) -> bool:
        """Ask the decoder for the next token.

        Returns:
            Whether one was found; False for "nothing".
        """
        self.num_calls += 1
        self._bound_history()
        beam, nothing_id = self._beam, self._model.tokenizer.nothing_id
        fired = torch.zeros(*beam.pending.shape, len(firing.embedding))
        fired[:, -1] = firing.embedding
        logits, state = self._model.decoder.step(beam.pending, beam.decoder_state, self._memory, fired)
        logits[:, self._forbidden] = -torch.inf
        log_probs = torch.log_softmax(logits.double(), dim=-1)
        # First whether there is a token at all, then which: where many are possible, "nothing" may lead them all and
        # still be unlikely, and a decoder that stays silent there has nothing new to go on from.
        weights = torch.softmax(beam.log_probs, dim=0)
        if float(weights @ log_probs[:, nothing_id].exp()) > self._nothing_threshold:
            return False  # the state stays as it was: "nothing" is not part of the history
        log_probs[:, nothing_id] = -torch.inf
        total, place = (beam.log_probs[:, None] + log_probs).flatten().topk(self._beam_size)
        parent, token = place // log_probs.shape[1], place % log_probs.shape[1]
        self._beam = _Beam(
            log_probs=total - total[0],
            tokens=torch.cat([beam.tokens[parent], token[:, None]], dim=1),
            confidences=torch.cat([beam.confidences[parent], log_probs[parent, token].exp()[:, None]], dim=1),
            pending=token[:, None],
            decoder_state={name: value[parent] for name, value in state.items()},
        )
        self._firings.append((firing.start_frame, firing.fire_frame))
        self._write_agreed()
        return True

    def _write_agreed(self) -> None:
        """Write the tokens that all hypotheses share, and give up those that contradict the best about old ones."""
        beam = self._beam
        if (too_many := beam.tokens.shape[1] - _MAX_OPEN) > 0:
            kept = (beam.tokens[:, :too_many] == beam.tokens[0, :too_many]).all(1)
            self._beam = beam = _Beam(
                beam.log_probs[kept],
                beam.tokens[kept],
                beam.confidences[kept],
                beam.pending[kept],
                {name: value[kept] for name, value in beam.decoder_state.items()},
            )
        agreed = (beam.tokens == beam.tokens[0]).all(0)
        self._write(int(agreed.long().cumprod(0).sum()))

    def _write(self, num_tokens: int) -> None:
        """Write the first open tokens of the likeliest hypothesis."""
        beam = self._beam
        self.token_ids += beam.tokens[0, :num_tokens].tolist()
        self.confidences += beam.confidences[0, :num_tokens].tolist()
        beam.tokens, beam.confidences = beam.tokens[:, num_tokens:], beam.confidences[:, num_tokens:]

    def _bound_history(self) -> None:
        beam = self._beam
        if beam.decoder_state["0.keys"].shape[2] + beam.pending.shape[1] > self._max_history:
            num_hypotheses = beam.tokens.shape[0]
            written = torch.tensor([*self.token_ids[-self._kept_history :]], dtype=torch.int64)
            history = torch.cat([written.expand(num_hypotheses, -1), beam.tokens], dim=1)[:, -self._kept_history :]
            prompt = torch.tensor(self._model.tokenizer.prompt_ids).expand(num_hypotheses, -1)
            beam.pending = torch.cat([prompt, history], dim=1)
            fresh = self._model.decoder.init_state()
            beam.decoder_state = {name: value.expand(num_hypotheses, -1, -1, -1) for name, value in fresh.items()}

    def _slide(self, old: Tensor, new: Tensor) -> Tensor:
        return torch.cat([old, new], dim=2)[:, :, -self._window_frames :]
