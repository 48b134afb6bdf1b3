"""What a recogniser answers: segments of words, each word with its time and its confidence."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Word:
    """One word of a segment.

    Attributes:
        text: The word, without spaces around it.
        start_s: Start in seconds from the first sample of the stream.
        end_s: End, on the same clock.
        confidence: Posterior of its weakest token, 0 to 1.
    """

    text: str
    start_s: float
    end_s: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Segment:
    """One utterance of a stream, growing while ``is_final`` is False.

    Attributes:
        index: 0, 1, 2...: which utterance of the stream.
        text: What was said so far. A later state of the same segment only ever appends to it.
        words: The words of ``text``, in order.
        start_s: Where the segment begins, seconds from the first sample of the stream.
        end_s: How far the audio of the segment has been decoded, on the same clock.
        is_final: True once the segment never changes again.
        token_ids: Written tokens, "nothing" left out.
        fire_frames: For each token, the encoder frame of its firing, counted from the segment's start.
        num_firings: Firings of the neuron in this segment, those that wrote nothing included.
        num_decoder_calls: Decoder steps spent on this segment.
    """

    index: int
    text: str
    words: tuple[Word, ...]
    start_s: float
    end_s: float
    is_final: bool
    token_ids: tuple[int, ...] = ()
    fire_frames: tuple[int, ...] = ()
    num_firings: int = 0
    num_decoder_calls: int = 0

    @property
    def confidence(self) -> float:
        """Mean confidence of the words; 0 for a segment without words."""
        return sum(word.confidence for word in self.words) / len(self.words) if self.words else 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """What one call of a recogniser brought.

    Attributes:
        finals: Segments that this call ended, in order; often none.
        partial: The segment that is open now; None after the end of the input.
    """

    finals: tuple[Segment, ...]
    partial: Segment | None
