"""Text to token ids and back, with sentencepiece."""

import io
import math
from collections.abc import Iterable, Mapping, Sequence

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as proto

from cifasr.errors import ConfigError

NOTHING_PIECE = "<nothing>"
START_PIECE = "<start>"
PROMPT_PIECE = "<prompt>"


class Tokenizer:
    """A sentencepiece model whose control pieces mean what the recogniser needs.

    Args:
        model: A serialised sentencepiece model. Its end-of-sentence piece is "nothing" (also the blank of CTC), its
            begin-of-sentence piece starts every history.

    Raises:
        ConfigError: The bytes are no sentencepiece model, or it lacks one of these pieces.
    """

    def __init__(self, model: bytes) -> None:
        try:
            self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise ConfigError(f"tokenizer: {error}") from error
        self.model = model
        self.vocab_size: int = self._pieces.vocab_size()
        self.nothing_id: int = self._pieces.eos_id()
        self.start_id: int = self._pieces.bos_id()
        if self.nothing_id < 0 or self.start_id < 0:
            raise ConfigError(
                "tokenizer: the sentencepiece model needs an end-of-sentence and a begin-of-sentence piece"
            )
        prompt_id: int = self._pieces.piece_to_id(PROMPT_PIECE)
        has_prompt = prompt_id != self._pieces.unk_id()
        self.prompt_ids: tuple[int, ...] = (self.start_id, prompt_id) if has_prompt else (self.start_id,)

    def encode(self, text: str) -> list[int]:
        """Turn text into ids, control pieces left out."""
        ids: list[int] = self._pieces.encode(text)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Turn ids into text; a longer sequence decodes to a text that begins with the shorter one's."""
        text: str = self._pieces.decode(list(ids))
        return text

    def piece_text(self, token_id: int) -> str:
        """Text of one token, with the space in front of it where it begins a word."""
        piece: str = self._pieces.id_to_piece(token_id)
        return piece.replace("\u2581", " ")

    def has_piece(self, text: str) -> bool:
        """Say whether a text, with a space in front where it begins a word, is a token of its own."""
        token_id: int = self._pieces.piece_to_id(text.replace(" ", "\u2581"))
        return token_id != self._pieces.unk_id()

    def starts_word(self, token_id: int) -> bool:
        """Say whether a token begins a new word."""
        return self.piece_text(token_id).startswith(" ")


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a unigram tokenizer on text.

    Args:
        texts: Sentences, in the style the model shall write.
        vocab_size: Pieces, control pieces included; the largest possible where the text has not so many.

    Raises:
        ConfigError: There is no text, or too little for any such vocabulary.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(texts),
            model_writer=model,
            vocab_size=vocab_size,
            hard_vocab_limit=False,
            model_type="unigram",
            character_coverage=1.0,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            bos_piece=START_PIECE,
            eos_piece=NOTHING_PIECE,
            minloglevel=2,
        )
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"tokenizer: vocab_size {vocab_size}: {error}") from error
    return Tokenizer(model.getvalue())


def tokenizer_from_pieces(counts: Mapping[str, float]) -> Tokenizer:
    """Build a unigram tokenizer whose pieces are given, most frequent first.

    Args:
        counts: How often each piece occurs, > 0; a piece that begins a word begins with a space. Every character to
            be written should be a piece of its own, so that any word can be spelled.

    Returns:
        A tokenizer with ids 0 to 3 for unknown, start, "nothing" and prompt, then the pieces in the order given.
    """
    model = proto.ModelProto()
    model.trainer_spec.model_type = proto.TrainerSpec.UNIGRAM
    model.trainer_spec.unk_id, model.trainer_spec.bos_id, model.trainer_spec.eos_id = 0, 1, 2
    model.trainer_spec.pad_id = -1
    model.trainer_spec.bos_piece, model.trainer_spec.eos_piece = START_PIECE, NOTHING_PIECE
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = True
    model.normalizer_spec.escape_whitespaces = True
    kind = proto.ModelProto.SentencePiece
    model.pieces.add(piece="<unk>", score=0.0, type=kind.UNKNOWN)
    for control in (START_PIECE, NOTHING_PIECE, PROMPT_PIECE):
        model.pieces.add(piece=control, score=0.0, type=kind.CONTROL)
    log_total = math.log(sum(counts.values()))
    for piece, count in counts.items():
        score = math.log(count) - log_total
        model.pieces.add(piece=piece.replace(" ", "\u2581"), score=score, type=kind.NORMAL)
    return Tokenizer(model.SerializeToString())
