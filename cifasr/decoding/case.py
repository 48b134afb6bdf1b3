"""Gives transcripts in one case the capitals that the teacher would write, the words kept."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cifasr.models.cif_asr import CifAsr


@torch.inference_mode()
def restore_case(model: CifAsr, encoder_out: Tensor, lens: Tensor, texts: Sequence[str]) -> list[str]:
    """Write each word with a capital where the model finds that likelier, hearing the audio and given the words before.

    A model that was trained on cased text knows names with their capitals; taught them in lower case, it has to spell
    them anew.

    Args:
        model: A model that was warm-started and not trained on lower case since.
        encoder_out: (B, T, D), of the whole utterances.
        lens: (B,) int64.
        texts: B transcripts in sentence case.

    Returns:
        The same words; the first of each keeps its capital.
    """
    tokenizer = model.tokenizer
    words = [text.split() for text in texts]
    pieces = [[tokenizer.encode(word) for word in row] for row in words]
    rows = [torch.tensor([*tokenizer.prompt_ids, *(i for ids in row for i in ids)]) for row in pieces]
    tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    ends = lens[:, None].expand(-1, tokens.shape[1])
    logits = model.decoder(tokens, encoder_out, torch.zeros_like(ends), ends)
    return [
        " ".join(_chosen(model, row_words, row_pieces, row_logits))
        for row_words, row_pieces, row_logits in zip(words, pieces, logits, strict=True)
    ]


def _chosen(model: CifAsr, words: list[str], pieces: list[list[int]], logits: Tensor) -> list[str]:
    place = len(model.tokenizer.prompt_ids) - 1  # where the first word's first token is scored
    chosen = []
    for word, ids in zip(words, pieces, strict=True):
        capital = word[:1].upper() + word[1:]
        other = model.tokenizer.encode(capital)[0]
        chosen.append(capital if other != ids[0] and logits[place, other] > logits[place, ids[0]] else word)
        place += len(ids)
    return chosen
