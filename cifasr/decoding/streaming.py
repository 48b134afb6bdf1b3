"""The streaming recogniser: a state machine without I/O. Samples in, segments of words out."""

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from cifasr.audio.fbank import FRAME_MS
from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples
from cifasr.config import Config
from cifasr.decoding.beam import BeamWriter, Firing
from cifasr.decoding.biasing import Biasing
from cifasr.decoding.endpoint import Endpointer, Observation
from cifasr.decoding.features import FeatureStream
from cifasr.decoding.result import Result, Segment
from cifasr.decoding.spelling import spelling_of
from cifasr.decoding.words import words_of
from cifasr.errors import AudioError, ConfigError, StateError
from cifasr.models.cif_asr import CifAsr
from cifasr.nn.state import State, merged, scoped
from cifasr.ops.cif import CifState, cif_flush, cif_stream

_RESIDUE_WEIGHT = 0.1
"""Weight that the silence after the last word may hold; what is written at the end was said before it."""

_RESIDUE_HORIZON_S = 60
"""How far back such silence is looked for."""

_LOUDEST_SAMPLE = 1000.0
"""Clipping and resampling pass 1 by a little; what passes this is on another scale, and could overflow the power."""

_PIECE_SAMPLES = 30 * SAMPLE_RATE_HZ
"""A long recording is heard in pieces, so that a segment's end copies no more than one of them."""


class StreamingOptions(Config):
    """How a stream is heard.

    With ``chunk_ms`` None the encoder hears the whole segment before anything is written: the offline mode.
    """

    chunk_ms: int | None = Field(640, description="audio heard at a time; also the wait for each word")
    left_context_ms: int | None = Field(10240, ge=0, description="past that the encoder keeps; None: all of it")
    decode_chunk_ms: int = Field(640, gt=0, description="how often the decoder is asked in the offline mode")
    lookahead_ms: int = Field(
        320, ge=0, description="audio past a chunk that is heard with it, and again with the next; words wait for it"
    )
    beam_size: int = Field(1, ge=1, le=64, description="hypotheses kept; 1 is greedy decoding")
    lexicon_weight: float = Field(
        0.1, ge=0.0, description="say of the model's lexicon, if it has one, beside the decoder; 0: none"
    )
    max_history_tokens: int = Field(
        128, ge=16, description="tokens the decoder looks back on, if it knows as many places"
    )
    nothing_threshold: float = Field(
        0.5, ge=0.0, le=1.0, description='probability of "nothing" above which a firing writes nothing'
    )


class StreamingRecognizer:
    """Recognises one stream.

    The result does not depend on how the stream is cut into calls. State is explicit and bounded: `state` takes it
    out, `restore` puts it into a recogniser with the same model and options.

    Args:
        model: The recogniser; several streams may share it.
        options: Chunk and context.
        endpointer: Ends segments by itself; None: one segment until `finish_segment` or `input_finished`, whose text
            is kept whole: a stream without end wants an endpointer.
        biasing: Favours tokens, such as those of taught words.
    """

    def __init__(
        self,
        model: CifAsr,
        options: StreamingOptions | None = None,
        endpointer: Endpointer | None = None,
        biasing: Biasing | None = None,
    ) -> None:
        self._model = model
        self._options = options or StreamingOptions()
        self._endpointer = endpointer
        self._biasing = biasing
        self._spelling = spelling_of(model, self._options.lexicon_weight)
        context = model.context(self._options.chunk_ms, self._options.left_context_ms)
        self._left_frames = context.left_frames
        self._ask_frames = context.chunk_frames
        if self._ask_frames is None:
            self._ask_frames = model.context(self._options.decode_chunk_ms, None).chunk_frames or 1
        if self._options.lookahead_ms % model.frame_ms:
            got = self._options.lookahead_ms
            raise ConfigError(f"lookahead_ms: wanted a multiple of {model.frame_ms} (the encoder's frame), got {got}")
        self._ahead_frames = self._options.lookahead_ms // model.frame_ms
        self._index = 0
        self._start_sample = 0
        self._finished = False
        self._endpointer_state: State = {} if endpointer is None else endpointer.begin()
        self._begin_segment()

    @torch.inference_mode()
    def accept_waveform(self, samples: Samples) -> Result:
        """Hear more of the stream.

        Args:
            samples: (S,) float32 at 16 kHz, in [-1, 1).

        Raises:
            StateError: The input was finished.
            AudioError: The samples are not a finite float vector.
        """
        self._check(samples)
        finals: list[Segment] = []
        for first in range(0, len(samples), _PIECE_SAMPLES):
            waiting: Samples | None = samples[first : first + _PIECE_SAMPLES].astype(np.float32)
            while waiting is not None:
                waiting = self._hear(waiting, finals)
        return Result(tuple(finals), self._segment(is_final=False))

    @torch.inference_mode()
    def finish_segment(self) -> Result:
        """Decode all that was heard, end the segment, and go on with the next."""
        self._check(np.zeros(0, dtype=np.float32))
        final = self._end_segment(hear_pending=True)
        return Result(final, self._segment(is_final=False))

    @torch.inference_mode()
    def input_finished(self) -> Result:
        """Decode the rest; the stream is over."""
        self._check(np.zeros(0, dtype=np.float32))
        self._finished = True
        return Result(self._end_segment(hear_pending=True), None)

    def state(self) -> State:
        """Take out everything that the stream has in it, as tensors of their own; nothing else is remembered."""
        parts = {
            "features": self._features.state(),
            "encoder": self._encoder_state,
            "estimator": self._estimator_state,
            "neuron": self._neuron._asdict(),
            "writer": self._writer.state(),
            "endpointer": self._endpointer_state,
        }
        counts = torch.tensor([self._index, self._start_sample, self._num_frames, int(self._finished)])
        everything = merged(parts) | {"counts": counts, "recent_weights": self._recent_weights}
        return {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in everything.items()}

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self._features.restore(scoped(state, "features"))
        self._encoder_state = scoped(state, "encoder")
        self._estimator_state = scoped(state, "estimator")
        self._neuron = CifState(**scoped(state, "neuron"))
        self._writer.restore(scoped(state, "writer"))
        self._endpointer_state = scoped(state, "endpointer")
        self._index, self._start_sample, self._num_frames, finished = state["counts"].tolist()
        self._finished = bool(finished)
        self._recent_weights = state["recent_weights"]

    def _begin_segment(self) -> None:
        model, options = self._model, self._options
        chunk_feats = None if options.chunk_ms is None else options.chunk_ms // FRAME_MS
        ahead_feats = 0 if chunk_feats is None else options.lookahead_ms // FRAME_MS
        self._features = FeatureStream(model.encoder, chunk_feats, ahead_feats)
        self._encoder_state = model.encoder.init_state()
        self._estimator_state = model.estimator.init_state()
        self._neuron = CifState.initial(1, model.config.encoder.d_model)
        assert self._ask_frames is not None
        max_history = min(options.max_history_tokens, model.config.decoder.max_tokens)
        self._writer = BeamWriter(
            model,
            self._ask_frames,
            max_history,
            options.nothing_threshold,
            options.beam_size,
            self._biasing,
            self._spelling,
        )
        self._num_frames = 0
        self._recent_weights = torch.zeros(0)

    def _hear(self, samples: Samples, finals: list[Segment]) -> Samples | None:
        """Hear samples until a segment ends; what was not heard by then belongs to the next segment."""
        for feats in self._features.accept(samples):
            if self._over(self._hear_chunk(feats)):
                rest = self._features.pending_samples()
                finals += self._end_segment(hear_pending=False)
                return rest
        return None

    def _hear_chunk(self, feats: Tensor) -> Observation | None:
        # Offline all is one chunk, and ahead of a part lies the next.
        seen = (self._left_frames, 0 if self._options.chunk_ms is None else self._ahead_frames)
        encoder_out, self._encoder_state = self._model.encoder.step(feats, self._encoder_state, *seen)
        alpha, self._estimator_state = self._model.estimator.step(encoder_out, self._estimator_state, *seen)
        assert self._ask_frames is not None
        observed, before = alpha, self._neuron
        alpha = alpha[:, : alpha.shape[1] - seen[1]]
        for first in range(0, alpha.shape[1], self._ask_frames):
            end = min(first + self._ask_frames, alpha.shape[1])
            ahead = encoder_out[:, end : end + self._ahead_frames]
            self._decode(encoder_out[:, first:end], ahead, alpha[:, first:end])
        horizon = _RESIDUE_HORIZON_S * 1000 // self._model.frame_ms
        self._recent_weights = torch.cat([self._recent_weights, alpha[0]])[-horizon:]
        return None if self._endpointer is None else self._observe(feats, encoder_out, observed, before)

    def _decode(self, encoder_out: Tensor, ahead: Tensor, alpha: Tensor) -> None:
        """Let the neuron integrate a chunk, and ask the decoder about each firing."""
        fired, self._neuron = cif_stream(
            encoder_out, alpha, self._neuron, threshold=self._model.config.neuron.threshold
        )
        self._num_frames += encoder_out.shape[1]
        self._writer.see(encoder_out, ahead)
        for u in range(int(fired.token_lens[0])):
            fire_frame = int(fired.fire_frames[0, u])
            start_frame = _start_frame(float(fired.delays[0, u]), fire_frame)
            self._writer.fire(Firing(fired.acoustic_embeds[0, u], start_frame, fire_frame))

    def _end_segment(self, *, hear_pending: bool) -> tuple[Segment, ...]:
        """Write what is still to be written, and begin the next segment where this one's audio ended."""
        if hear_pending:
            for feats in self._features.finish():
                self._hear_chunk(feats)
        neuron = self._model.config.neuron
        tail, self._neuron = cif_flush(self._neuron, threshold=neuron.threshold, tail_threshold=neuron.tail_threshold)
        last_frame = max(self._writer.last_frame, self._num_frames - 1 - self._num_silence_frames(_RESIDUE_WEIGHT))
        if self._num_frames:
            if int(tail.token_lens[0]):
                start_frame = _start_frame(float(tail.delays[0, 0]), last_frame)
                self._writer.fire(Firing(tail.acoustic_embeds[0, 0], start_frame, last_frame))
            self._writer.flush(last_frame)
        final = self._segment(is_final=True)
        self._start_sample += self._features.num_samples - (0 if hear_pending else self._features.num_pending_samples)
        if self._endpointer is not None:
            self._endpointer_state = self._endpointer.begin(self._endpointer_state)
        self._begin_segment()
        if not final.text:
            return ()
        self._index += 1
        return (final,)

    def _observe(self, feats: Tensor, encoder_out: Tensor, alpha: Tensor, before: CifState) -> Observation:
        """Say what is known after a chunk.

        Args:
            feats: As the encoder heard them.
            encoder_out: (1, n, D), with what lies ahead.
            alpha: (1, n).
            before: The neuron before the chunk.
        """
        neuron, encoder, frame_s = self._model.config.neuron, self._model.encoder, self._model.frame_ms / 1000
        fired, _ = cif_stream(encoder_out, alpha, before, threshold=neuron.threshold)
        num_frames, loudness = alpha.shape[1], feats[0, encoder.left_feats :].mean(1)
        return Observation(
            alpha=alpha[0] / neuron.threshold,
            loudness=loudness[: num_frames * encoder.subsampling].view(num_frames, -1).mean(1),
            firings=torch.bincount(fired.fire_frames[0] - before.num_frames, minlength=num_frames),
            num_ahead=num_frames - (self._num_frames - int(before.num_frames)),
            frame_s=frame_s,
            segment_s=self._num_frames * frame_s,
            has_text=self._writer.has_text,
            confidence=self._writer.confidences[-1] if self._writer.confidences else 0.0,
        )

    def _over(self, observation: Observation | None) -> bool:
        """Ask the endpointer whether the segment ends with the chunk just heard."""
        if self._endpointer is None or observation is None:
            return False
        over, self._endpointer_state = self._endpointer.ends(observation, self._endpointer_state)
        return over

    def _num_silence_frames(self, weight: float) -> int:
        """Say for how many frames up to now the neuron has gained at most so much."""
        gained = self._recent_weights.flip(0).cumsum(0)
        return int((gained <= weight).sum())

    def _segment(self, *, is_final: bool) -> Segment:
        writer, frame_s = self._writer, self._model.frame_ms / 1000
        start_s = self._start_sample / SAMPLE_RATE_HZ
        starts = [start_s + max(0.0, frame) * frame_s for frame in writer.start_frames]
        ends = [start_s + (frame + 1) * frame_s for frame in writer.fire_frames]
        return Segment(
            index=self._index,
            text=self._model.tokenizer.decode(writer.token_ids),
            words=words_of(self._model.tokenizer, writer.token_ids, starts, ends, writer.confidences),
            start_s=start_s,
            end_s=start_s + self._num_frames * frame_s,
            is_final=is_final,
            token_ids=tuple(writer.token_ids),
            fire_frames=tuple(writer.fire_frames),
            num_firings=writer.num_firings,
            num_decoder_calls=writer.num_calls,
        )

    def _check(self, samples: Samples) -> None:
        if self._finished:
            raise StateError("the input of this stream was finished; begin a new recogniser for more audio")
        if not np.issubdtype(samples.dtype, np.floating):
            raise AudioError(f"samples: wanted floats in [-1, 1), got {samples.dtype}")
        if samples.ndim != 1:
            raise AudioError(f"samples: wanted one channel of shape (S,), got shape {samples.shape}")
        if not np.isfinite(samples).all():
            raise AudioError("samples: wanted finite values, got NaN or infinity among them")
        if (loudest := np.abs(samples).max(initial=0.0)) > _LOUDEST_SAMPLE:
            raise AudioError(f"samples: wanted floats in [-1, 1), got {loudest:g} among them")


def _start_frame(delay: float, fire_frame: int) -> float:
    """Say where a token began: as far before the middle of its weight as its last frame ends after it.

    Args:
        delay: See `CifOutput`; half a frame later than the middle.
        fire_frame: Its last frame, which ends at ``fire_frame + 1``.
    """
    return 2 * (delay - 0.5) - (fire_frame + 1)


def transcribe(
    model: CifAsr,
    samples: Samples,
    options: StreamingOptions | None = None,
    endpointer: Endpointer | None = None,
    biasing: Biasing | None = None,
) -> list[Segment]:
    """Recognise a whole recording in one go.

    Args:
        model: The recogniser.
        samples: (S,) float32 at 16 kHz.
        options: Chunk and context.
        endpointer: Ends segments; None: one segment.
        biasing: Favours tokens.

    Returns:
        The final segments that have text.
    """
    recognizer = StreamingRecognizer(model, options, endpointer, biasing)
    return [*recognizer.accept_waveform(samples).finals, *recognizer.input_finished().finals]
