"""Draw how a taught word stands out: ``python recipes/cerebellum/draw_word_memory.py CUTS --cache FOLDER``.

The cuts and the folder are those of ``word_memory.py names``. The picture lies beside this file.
"""

from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import torch
import typer
from heard import Heard, hear_all
from lhotse import CutSet
from torch import Tensor
from word_memory import Taught, taught_alone

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from cifasr.models.cif_asr import CifAsr
from cifasr.models.pretrained import load_model
from cifasr.text.normalize import normalize_for_wer

HERE = Path(__file__).parent


def main(
    cuts: Annotated[Path, typer.Argument(help="Names, alone and in sentences.")],
    cache: Annotated[Path, typer.Option(help="Folder for what was heard.")],
    number: Annotated[int, typer.Option(help="Names.")] = 50,
) -> None:
    """Draw the scores of one name along a sentence, and of all names in all sentences."""
    model, utterances = load_model(), list(CutSet.from_file(cuts))
    names = list(dict.fromkeys((cut.custom or {})["name"] for cut in utterances))[:number]
    ours = [cut for cut in utterances if (cut.custom or {})["name"] in names]
    taught = taught_alone(model, ours, cache / "lessons")
    heard = hear_all(model, [cut for cut in ours if not (cut.custom or {})["alone"]], cache)
    _, (left, right) = plt.subplots(1, 2, figsize=(11, 3.6), layout="constrained")
    with torch.inference_mode():
        sentence = next(each for each in heard if taught[0].word in normalize_for_wer(each.text).split())
        draw_sentence(model, left, sentence, taught[0])
        draw_separation(model, right, heard, taught)
    plt.savefig(HERE / "word_memory.png", dpi=110)


def draw_sentence(model: CifAsr, axes: Axes, sentence: Heard, taught: Taught) -> None:
    """Draw how well each token of a taught word is recognised at each token of a sentence."""
    phrase, keys = taught.lesson.parts[0]
    for token_id, row in zip(phrase.token_ids, _scores(model, sentence, keys).T, strict=True):
        axes.plot(row, "o-", label=model.tokenizer.piece_text(token_id).strip())
    axes.set_xticks(range(len(sentence.tokens)), map(model.tokenizer.piece_text, sentence.tokens.tolist()), rotation=60)
    axes.set(title=f"{phrase.text}, taught alone by another voice", ylabel="cosine")
    axes.legend(title="key of")


def draw_separation(model: CifAsr, axes: Axes, heard: list[Heard], taught: list[Taught]) -> None:
    """Draw the best score of a word's first key in sentences that have it, and in those that have not."""
    first = torch.stack([each.lesson.parts[0][1][0] for each in taught])
    with_it: list[float] = []
    without: list[float] = []
    for each in heard:
        said = set(normalize_for_wer(each.text).split())
        for one, score in zip(taught, _scores(model, each, first).amax(0).tolist(), strict=True):
            (with_it if one.word in said else without).append(score)
    for scores, label in ((without, "sentences without the word"), (with_it, "sentences with it")):
        axes.hist(scores, bins=40, range=(0, 1), density=True, alpha=0.6, label=f"{label}: {len(scores)}")
    axes.set(title="best score of the first key", xlabel="cosine", ylabel="density")
    axes.legend()


def _scores(model: CifAsr, heard: Heard, keys: Tensor) -> Tensor:
    """Compare every token of an utterance with keys: (S, n)."""
    return torch.nn.functional.normalize(model.decoder.norm(heard.hidden), dim=1) @ keys.T


if __name__ == "__main__":
    typer.run(main)
