"""Greedy decoding of one segment: the decoder is asked once a firing, and what it writes never changes."""

from typing import NamedTuple

import torch
from torch import Tensor

from cifasr.models.cif_asr import CifAsr
from cifasr.nn.state import State, merged, scoped

_MAX_UNASKED = 32
"""Tokens that the end of a segment may bring beyond the firings; more would be a decoder that does not stop."""


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


class GreedyWriter:
    """Writes the tokens of one segment.

    Args:
        model: The recogniser.
        chunk_frames: Frames of a chunk; the window is the model's and one chunk.
        max_history: Tokens that the decoder looks back on. A longer segment keeps only the last quarter of them and
            goes on, so that a stream may last for days.
        nothing_threshold: Probability of "nothing" above which nothing is written.
    """

    def __init__(self, model: CifAsr, chunk_frames: int, max_history: int, nothing_threshold: float) -> None:
        self._model = model
        self._nothing_threshold = nothing_threshold
        self._window_frames = model.window_frames + chunk_frames
        self._max_history = max_history
        self._kept_history = max(1, max_history // 4)
        self._memory = model.decoder.project_memory(torch.zeros(1, 0, model.config.encoder.d_model))
        self._decoder_state = model.decoder.init_state()
        self._pending = list(model.tokenizer.prompt_ids)  # written, and not yet in the decoder's state
        control = {0, model.tokenizer.start_id, *model.tokenizer.prompt_ids}
        self._forbidden = torch.tensor(sorted(control))
        self.token_ids: list[int] = []
        self.confidences: list[float] = []
        self.start_frames: list[float] = []
        self.fire_frames: list[int] = []
        self.num_firings = 0
        self.num_calls = 0
        self._waiting: list[Firing] = []

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

        Args:
            last_frame: The segment's.
        """
        self.answer(last_frame + 1)
        if self._model.window_frames == 0:
            return  # without a window there is nothing to hear but firings
        silence = torch.zeros(self._model.config.encoder.d_model)
        for _ in range(_MAX_UNASKED):
            start = self.fire_frames[-1] if self.fire_frames else 0
            if not self._ask(Firing(silence, start, last_frame)):
                return

    def state(self) -> State:
        """Take the state out."""
        memory = {str(i): {"keys": kv[0], "values": kv[1]} for i, kv in enumerate(self._memory) if kv is not None}
        no_firings = torch.zeros(0, self._model.config.encoder.d_model)
        written = {
            "token_ids": torch.tensor(self.token_ids, dtype=torch.int64),
            "confidences": torch.tensor(self.confidences, dtype=torch.float64),
            "start_frames": torch.tensor(self.start_frames, dtype=torch.float64),
            "fire_frames": torch.tensor(self.fire_frames, dtype=torch.int64),
            "pending": torch.tensor(self._pending, dtype=torch.int64),
            "counts": torch.tensor([self.num_firings, self.num_calls]),
            "waiting": torch.stack([firing.embedding for firing in self._waiting]) if self._waiting else no_firings,
            "waiting_starts": torch.tensor([firing.start_frame for firing in self._waiting], dtype=torch.float64),
            "waiting_frames": torch.tensor([firing.fire_frame for firing in self._waiting], dtype=torch.int64),
        }
        return merged({"memory": merged(memory), "decoder": self._decoder_state, "written": written})

    def restore(self, state: State) -> None:
        """Put a state back in."""
        memory, written = scoped(state, "memory"), scoped(state, "written")
        self._memory = [
            None if kv is None else (memory[f"{i}.keys"], memory[f"{i}.values"]) for i, kv in enumerate(self._memory)
        ]
        self._decoder_state = scoped(state, "decoder")
        self.token_ids = written["token_ids"].tolist()
        self.confidences = written["confidences"].tolist()
        self.start_frames = written["start_frames"].tolist()
        self.fire_frames = written["fire_frames"].tolist()
        self._pending = written["pending"].tolist()
        self.num_firings, self.num_calls = written["counts"].tolist()
        starts, frames = written["waiting_starts"].tolist(), written["waiting_frames"].tolist()
        self._waiting = [Firing(*firing) for firing in zip(written["waiting"], starts, frames, strict=True)]

    def _ask(self, firing: Firing) -> bool:
        """Ask the decoder for the next token.

        Returns:
            Whether one was written; False for "nothing".
        """
        self.num_calls += 1
        self._bound_history()
        fired = torch.zeros(1, len(self._pending), len(firing.embedding))
        fired[0, -1] = firing.embedding
        tokens = torch.tensor([self._pending])
        logits, state = self._model.decoder.step(tokens, self._decoder_state, self._memory, fired)
        logits[self._forbidden] = -torch.inf
        probabilities = torch.softmax(logits, dim=-1)
        # First whether there is a token at all, then which: where many are possible, "nothing" may lead them all and
        # still be unlikely, and a decoder that stays silent there has nothing new to go on from.
        if float(probabilities[self._model.tokenizer.nothing_id]) > self._nothing_threshold:
            return False  # the state stays as it was: "nothing" is not part of the history
        probabilities[self._model.tokenizer.nothing_id] = 0.0
        probability, token = probabilities.max(dim=-1)
        self._decoder_state = state
        self._pending = [int(token)]
        self.token_ids.append(int(token))
        self.confidences.append(float(probability))
        self.start_frames.append(firing.start_frame)
        self.fire_frames.append(firing.fire_frame)
        return True

    def _bound_history(self) -> None:
        if self._decoder_state["0.keys"].shape[2] + len(self._pending) > self._max_history:
            self._decoder_state = self._model.decoder.init_state()
            self._pending = [*self._model.tokenizer.prompt_ids, *self.token_ids[-self._kept_history :]]

    def _slide(self, old: Tensor, new: Tensor) -> Tensor:
        return torch.cat([old, new], dim=2)[:, :, -self._window_frames :]
