"""Names that no list foresaw: each alone and in sentences, every time by another voice, for tests of a word memory.

::

    python recipes/synthetic/names.py TEXT.txt.xz --out FOLDER --names 100 --sentences 3
"""

import re
from collections import Counter
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from lhotse import Recording, SupervisionSegment
from lhotse.cut import Cut
from sentences import PlannedUtterance, read_sentences
from synthesise import Corpus, SpokenUtterance, check_settings, speak_in_order, write_cuts

from cifasr.cli.output import print_json

_TITLES = {"MISTER", "MISSUS", "MISS", "LADY", "LORD", "SIR", "CAPTAIN", "DOCTOR", "COUNT", "COLONEL", "MADAME"}
_NAME = re.compile(r"[A-Z]{4,12}")
_MOST_OFTEN = 40
"""Times that the text may hold a name; it is rare then, and not a word of another kind."""

_SENTENCES = (
    "I asked {} about the key to the cellar",
    "Yesterday we met {} on the road to town",
    "Nobody could tell whether {} would come back",
    "The letter was addressed to {} at the old mill",
    "When {} heard the news there was a long silence",
    "It was {} who opened the window that night",
    "They found {} asleep under the apple tree",
    "She had never spoken of {} to her sister",
    "Perhaps {} will explain it when the train arrives",
    "We waited for {} until the lamps were lit",
    "My brother says that {} sold the house last winter",
    "Before supper {} told us a very strange story",
)


def main(
    text: Annotated[Path, typer.Argument(help="One sentence a line in capitals, UTF-8, plain or .xz.")],
    out: Annotated[Path, typer.Option(help="Folder for audio/ and cuts_names.jsonl.gz.")],
    names: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    skip: Annotated[int, typer.Option(min=0, help="Names to leave out first, so that two corpora share none.")] = 0,
    sentences: Annotated[int, typer.Option(min=0, max=len(_SENTENCES), help="With each name, besides it alone.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of names, speakers and noise.")] = 0,
) -> None:
    """Speak rare names of a text, alone and in sentences; the cuts' `name` and `alone` say which."""
    corpus = Corpus(out, seed, num_speakers=100_000)
    check_settings(text, corpus)
    chosen = rare_names(read_sentences(text), seed)[skip : skip + names]
    plan = [
        PlannedUtterance(number, (sentence,))
        for place, name in enumerate(chosen, start=skip)
        for number, sentence in enumerate(_spoken_with(name, place, sentences), place * (len(_SENTENCES) + 1))
    ]
    spoken = [utterance for utterance in speak_in_order(plan, corpus, 1) if utterance.num_samples]
    path = out / "cuts_names.jsonl.gz"
    write_cuts(path, map(_cut, spoken))
    print_json({"names": len(chosen), "cuts": len(spoken), "path": str(path)})


def rare_names(sentences: list[str], seed: int) -> list[str]:
    """Find words that follow a title and are rare, in an order that the seed fixes."""
    counts = Counter(word for sentence in sentences for word in sentence.split())
    named = {
        word
        for sentence in sentences
        for title, word in zip(sentence.split(), sentence.split()[1:], strict=False)
        if title in _TITLES and _NAME.fullmatch(word) and counts[word] <= _MOST_OFTEN
    }
    order = np.random.default_rng(seed).permutation(len(named))
    return [sorted(named)[place].capitalize() for place in order]


def _spoken_with(name: str, place: int, num_sentences: int) -> list[str]:
    turned = [_SENTENCES[(place + k) % len(_SENTENCES)] for k in range(num_sentences)]
    return [name, *(sentence.format(name) for sentence in turned)]


def _cut(utterance: SpokenUtterance) -> Cut:
    cut = Recording.from_file(utterance.path).to_cut()
    sentence = utterance.planned.text
    cut.supervisions = [
        SupervisionSegment(cut.id, cut.recording_id, 0.0, cut.duration, text=sentence, speaker=utterance.speaker)
    ]
    words = [word for word in sentence.split()[1:] if word[0].isupper() and word != "I"]
    cut.custom = {"name": words[0] if words else sentence.split()[0], "alone": " " not in sentence}
    return cut


if __name__ == "__main__":
    typer.run(main)
