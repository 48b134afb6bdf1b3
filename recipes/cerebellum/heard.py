"""Utterances heard once: what the writer of a stream was given, and what it made of that without any bias."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import torch
from lhotse.cut import Cut
from torch import Tensor

from cifasr.cli.progress import progress_bar
from cifasr.data.batches import load_samples, written_style
from cifasr.decoding import streaming
from cifasr.decoding.beam import BeamWriter, Firing
from cifasr.decoding.biasing import Biasing, Unbiased
from cifasr.decoding.spelling import spelling_of
from cifasr.decoding.streaming import StreamingRecognizer
from cifasr.models.cif_asr import CifAsr
from cifasr.nn.state import State

_CLOSE = 8.0
"""Difference of natural logarithms that spelling and the 16 bits of the scores kept do not make up for."""

Event = tuple[str, tuple[object, ...]]
"""A call of a writer: name and arguments."""


@dataclass
class Heard:
    """One utterance.

    Attributes:
        cut_id: Its cut.
        text: Its transcript, as the model would write it.
        seconds: Its length.
        events: The writer's calls.
        hidden: (S, D), what each token was read from.
        tokens: (S,) int64, what was written.
        hypothesis: The same as text.
        log_probs: (S, V) float16, but for a constant.
    """

    cut_id: str
    text: str
    seconds: float
    events: list[Event]
    hidden: Tensor
    tokens: Tensor
    hypothesis: str
    log_probs: Tensor

    @torch.inference_mode()
    def rewritten(self, model: CifAsr, biasing: Biasing) -> str | None:
        """Decode again where a bias might change a token; None where it cannot."""
        if not self._changes(biasing):
            return None
        return model.tokenizer.decode(written(model, self.events, biasing).token_ids)

    def frames(self) -> Tensor:
        """The encoder's, (1, T, D)."""
        return torch.cat([args[0].float() for name, args in self.events if name == "see"], dim=1)  # type: ignore[attr-defined]

    def _changes(self, biasing: Biasing) -> bool:
        state = biasing.begin()
        for hidden, token, log_probs in zip(self.hidden, self.tokens, self.log_probs, strict=True):
            bonus = biasing.bonus(state, hidden[None])[0]
            given = bonus[token]
            rivals = torch.where(bonus > given, log_probs + bonus, -torch.inf)
            if rivals.max() > log_probs[token] + given - _CLOSE:
                return True
            state = biasing.follow(state, torch.tensor([0]), token[None], given[None])
        return False


@dataclass
class _Tape:
    """Stands in for a writer, and keeps what it is given."""

    events: list[Event] = field(default_factory=list)
    last_frame: int = 0
    has_text: bool = False
    token_ids: tuple[int, ...] = ()
    confidences: tuple[float, ...] = ()
    start_frames: tuple[float, ...] = ()
    fire_frames: tuple[int, ...] = ()
    num_firings: int = 0
    num_calls: int = 0

    def see(self, encoder_out: Tensor, ahead: Tensor) -> None:
        self.events.append(("see", (encoder_out.half(), ahead.half())))

    def fire(self, firing: Firing) -> None:
        self.events.append(("fire", (firing.embedding.half(), firing.start_frame, firing.fire_frame)))
        self.last_frame = firing.fire_frame

    def flush(self, last_frame: int) -> None:
        self.events.append(("flush", (last_frame,)))


class _Diary(Unbiased):
    """Favours nothing, and keeps what each token was read from."""

    def __init__(self) -> None:
        self.hidden: list[Tensor] = []

    def bonus(self, state: State, hidden: Tensor) -> Tensor:
        self.hidden.append(hidden[0])
        return super().bonus(state, hidden)


@torch.inference_mode()
def hear_all(model: CifAsr, cuts: Iterable[Cut], cache: Path) -> list[Heard]:
    """Hear cuts, each as one segment of a stream; what is in the folder already is only read."""
    with progress_bar() as bar:
        return [_hear(model, cut, cache / "heard") for cut in bar.track(list(cuts), description="hear")]


def cached(path: Path, make: Callable[[], object]) -> object:
    """Read what was made before, or make it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        torch.save(make(), part)
        part.replace(path)
    return torch.load(path, weights_only=False)


def _hear(model: CifAsr, cut: Cut, folder: Path) -> Heard:
    events, hidden, tokens = cached(folder / f"{cut.id}.pt", lambda: _decoded(model, _recorded(model, cut)))  # type: ignore[misc]
    text = written_style(cut.supervisions[0].text or "")
    log_probs = model.decoder.logits(hidden)
    log_probs[:, [0, model.tokenizer.start_id, *model.tokenizer.prompt_ids, model.tokenizer.nothing_id]] = -torch.inf
    hypothesis = model.tokenizer.decode(tokens.tolist())
    return Heard(cut.id, text, cut.duration, events, hidden, tokens, hypothesis, log_probs.half())


def _recorded(model: CifAsr, cut: Cut) -> list[Event]:
    tapes: list[_Tape] = []

    def start(*arguments: object) -> _Tape:
        tapes.append(_Tape())
        return tapes[-1]

    with patch.object(streaming, "BeamWriter", start):
        recognizer = StreamingRecognizer(model)
        recognizer.accept_waveform(load_samples(cut))
        recognizer.input_finished()
    return tapes[0].events


def _decoded(model: CifAsr, events: list[Event]) -> tuple[list[Event], Tensor, Tensor]:
    diary = _Diary()
    tokens = written(model, events, diary).token_ids  # at the end more may have been found than were taken
    hidden = torch.stack(diary.hidden) if diary.hidden else torch.zeros(0, model.config.decoder.d_model)
    return events, hidden[: len(tokens)], torch.tensor(tokens, dtype=torch.int64)


def written(model: CifAsr, events: list[Event], biasing: Biasing) -> BeamWriter:
    """Let a writer hear it as a stream with the default options does."""
    options = streaming.StreamingOptions()
    chunk_frames = model.context(options.chunk_ms, options.left_context_ms).chunk_frames or 1
    history = min(options.max_history_tokens, model.config.decoder.max_tokens)
    spelling = spelling_of(model, options.lexicon_weight)
    writer = BeamWriter(model, chunk_frames, history, options.nothing_threshold, 1, biasing, spelling)
    for name, arguments in events:
        whole = [part.float() if isinstance(part, Tensor) else part for part in arguments]
        if name == "fire":
            writer.fire(Firing(*whole))  # type: ignore[arg-type]
        else:
            getattr(writer, name)(*whole)
    return writer
