"""`cifasr align`: write into cuts where each token ends."""

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import torch
import typer
from lhotse import CutSet
from lhotse.supervision import AlignmentItem
from lhotse.utils import fastcopy
from torch import Tensor

from cifasr.cli.output import print_json
from cifasr.cli.progress import progress_bar
from cifasr.data.batches import TOKEN_ALIGNMENT, Utterance, bucketed_batches, collate, load_cuts, load_utterance
from cifasr.decoding.alignment import attention_borders, ctc_borders
from cifasr.decoding.case import restore_case
from cifasr.models.checkpoint import load_checkpoint
from cifasr.models.cif_asr import CifAsr
from cifasr.nn.context import Context
from cifasr.text.tokenizer import Tokenizer
from cifasr.training.dtype import autocast


class AlignBy(StrEnum):
    """What borders are read from."""

    attention = "attention"
    ctc = "ctc"


def align(
    cuts: Annotated[
        Path, typer.Argument(help="Cuts, as `cifasr prepare` writes them; the borders are written into them.")
    ],
    model: Annotated[Path, typer.Option(help="Checkpoint: warm-started for attention, with a CTC branch for ctc.")],
    by: Annotated[
        AlignBy, typer.Option(help="The decoder's alignment heads, or a CTC forced alignment.")
    ] = AlignBy.attention,
    out: Annotated[Path | None, typer.Option(help="Write here instead of over the cuts.")] = None,
    case: Annotated[
        bool, typer.Option("--restore-case", help="First give transcripts in capitals the case the model would write.")
    ] = False,
    batch_seconds: Annotated[float, typer.Option(help="Audio a batch, in seconds.")] = 60.0,
) -> None:
    """Find where each token of each cut ends, and keep it in the cuts."""
    recogniser = load_checkpoint(model)
    borders_of = attention_borders if by is AlignBy.attention else ctc_borders
    everything = load_cuts([cuts])
    batches = list(
        bucketed_batches(everything, max_seconds=batch_seconds, num_buckets=10, seed=0, epoch=0, shuffle=False)
    )
    aligned = {}
    with progress_bar() as bar, autocast("auto", torch.device("cpu")), torch.inference_mode():
        for batch in bar.track(batches, description=f"align {cuts.name}"):
            utterances = [load_utterance(cut.drop_alignments(), recogniser.tokenizer) for cut in batch]
            tensors = collate(utterances)
            encoder_out, lens = recogniser.encoder(tensors.feats, tensors.feat_lens, Context())
            if case:
                utterances = _restored(recogniser, utterances, encoder_out, lens)
                tensors = collate(utterances)
            borders = borders_of(recogniser, encoder_out, lens, tensors.targets, tensors.target_lens)
            for cut, utterance, ends in zip(batch, utterances, borders, strict=True):
                inside = [min(end, cut.duration) for end in ends]  # the last frame may be longer than the audio
                texts = _texts(recogniser.tokenizer, utterance.token_ids)
                items = [
                    AlignmentItem(text, start, round(end - start, 3))
                    for text, start, end in zip(texts, [0.0, *inside], inside, strict=False)
                ]
                supervision = cut.supervisions[0].with_alignment(TOKEN_ALIGNMENT, items)
                aligned[cut.id] = fastcopy(supervision, text=utterance.text) if case else supervision
    target = out or cuts
    part = target.with_name(f"part.{target.name}")
    # The cuts as they were read: those of a batch carry notes of the sampler's.
    CutSet.from_cuts(fastcopy(cut, supervisions=[aligned[cut.id]]) for cut in everything).to_file(part)
    part.replace(target)
    print_json({"cuts": str(target), "aligned": len(aligned), "by": by.value})


def _texts(tokenizer: Tokenizer, token_ids: list[int]) -> list[str]:
    """Say what each token adds to the text: what an unknown one stands for too, as `token_ends` counts it."""
    spelled = [tokenizer.decode(token_ids[: i + 1]) for i in range(len(token_ids))]
    return [after[len(before) :] for before, after in zip(["", *spelled], spelled, strict=False)]


def _restored(model: CifAsr, utterances: list[Utterance], encoder_out: Tensor, lens: Tensor) -> list[Utterance]:
    texts = restore_case(model, encoder_out, lens, [utterance.text for utterance in utterances])
    return [
        replace(utterance, text=text, token_ids=model.tokenizer.encode(text))
        for utterance, text in zip(utterances, texts, strict=True)
    ]
