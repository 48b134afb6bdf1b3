"""Starts a recogniser from a Whisper: its encoder, its decoder, and the rows of its most frequent sub-words."""

from collections.abc import Iterable, Mapping

import torch

from cifasr.errors import CheckpointError
from cifasr.models.cif_asr import CifAsr, CifAsrConfig, DecoderConfig, EncoderConfig
from cifasr.models.teacher import Teacher
from cifasr.text.tokenizer import Tokenizer, tokenizer_from_pieces

_TEACHER_OWNS = ("encoder.", "decoder.")


def warm_start(
    teacher: Teacher, counts: Mapping[int, float], *, vocab_size: int = 14000, name: str = "cifasr"
) -> CifAsr:
    """Build a recogniser that begins where the teacher stands; only the weight estimator begins at random.

    Args:
        teacher: The Whisper.
        counts: How often each of the teacher's sub-words occurs in text like that to be recognised.
        vocab_size: Sub-words to keep; the rest of the language is spelled with them.
        name: Of the model.

    Raises:
        CheckpointError: The teacher's tensors do not fit each other.
    """
    kept = frequent_pieces(teacher, counts, vocab_size)
    tokenizer = tokenizer_from_pieces({teacher.pieces[i]: count for i, count in kept.items()})
    model = CifAsr(_config(teacher, name), tokenizer)
    weights = teacher.weights | {"decoder.embedding.weight": _embedding_rows(teacher, list(kept), tokenizer)}
    try:
        missing, unexpected = model.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise CheckpointError(f"teacher: its tensors do not fit each other: {error}") from error
    lost = [key for key in missing if key.startswith(_TEACHER_OWNS) and key != "encoder.positions"]
    if lost:
        raise CheckpointError(f"teacher: no weights for {', '.join(lost[:5])}")
    if unexpected:
        raise CheckpointError(f"teacher: weights that no Whisper has: {', '.join(unexpected[:5])}")
    return model


def frequent_pieces(teacher: Teacher, counts: Mapping[int, float], vocab_size: int) -> dict[int, float]:
    """Choose the sub-words to keep: every printable ASCII character, the space among them, then the most frequent.

    Returns:
        Count by the teacher's id, most frequent first; a character that does not occur counts half an occurrence.
    """
    characters = {
        i for i, piece in teacher.pieces.items() if len(piece) == 1 and piece.isascii() and piece.isprintable()
    }
    usable = {i: float(n) for i, n in counts.items() if _is_plain(teacher.pieces.get(i, ""))}
    ranked = sorted(usable, key=lambda i: (-usable[i], i))
    others = [i for i in ranked if i not in characters]
    chosen = characters | set(others[: max(0, vocab_size - len(characters))])
    return {i: usable.get(i, 0.5) for i in sorted(chosen, key=lambda i: (-usable.get(i, 0.5), i))}


def _is_plain(piece: str) -> bool:
    """Say whether a piece is printable ASCII with at most one space, at its start: a sentencepiece piece."""
    return bool(piece.strip()) and piece.isascii() and piece.isprintable() and " " not in piece[1:]


def _config(teacher: Teacher, name: str) -> CifAsrConfig:
    d_model = teacher.weights["decoder.positions"].shape[1]
    feed_forward = teacher.weights.get("encoder.blocks.0.feed_forward.0.weight")
    if feed_forward is None:
        raise CheckpointError("teacher: no weights for encoder.blocks.0.feed_forward.0.weight")
    d_ff = feed_forward.shape[0]
    return CifAsrConfig(
        name=name,
        encoder=EncoderConfig(
            kind="whisper",
            num_layers=_count_layers(teacher.weights, "encoder"),
            d_model=d_model,
            num_heads=teacher.num_heads,
            d_ff=d_ff,
        ),
        decoder=DecoderConfig(
            num_layers=_count_layers(teacher.weights, "decoder"),
            d_model=d_model,
            num_heads=teacher.num_heads,
            d_ff=d_ff,
            fired_embedding=False,
            max_tokens=teacher.weights["decoder.positions"].shape[0],
        ),
        alignment_heads=teacher.alignment_heads,
    )


def _count_layers(names: Iterable[str], side: str) -> int:
    return len({name.split(".")[2] for name in names if name.startswith(f"{side}.blocks.")})


def _embedding_rows(teacher: Teacher, kept: list[int], tokenizer: Tokenizer) -> torch.Tensor:
    rows = teacher.weights["decoder.embedding.weight"]
    control = torch.stack(
        [rows[kept].mean(0), rows[teacher.start_id], rows[teacher.nothing_id], rows[teacher.prompt_id]]
    )  # in the order of ids 0 to 3: unknown, start, "nothing", prompt
    embedding = torch.cat([control, rows[kept]])
    assert embedding.shape[0] == tokenizer.vocab_size
    return embedding
