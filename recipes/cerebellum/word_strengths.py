"""What a word memory's least score and boost would find, and what they would begin wrongly.

::

    python recipes/cerebellum/word_strengths.py CUTS --more CUTS --cache FOLDER --number 50

The decoder is run twice for each sentence: freely, and made to write the right text. A name is found if each of its
tokens wins along the second; a phrase is begun wrongly where its first token wins along the first, more than one token
from the name. Nothing is decoded again, so that a grid of strengths takes seconds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated

import torch
import typer
from heard import Heard, hear_all, written
from lhotse import CutSet
from torch import Tensor
from word_memory import Taught, others_of, taught_alone

from cifasr.cli.output import print_json
from cifasr.decoding.biasing import Dictation
from cifasr.decoding.memory.word_memory import MEMORIES, Backend
from cifasr.models.cif_asr import CifAsr
from cifasr.models.pretrained import load_model

_LEAST_SCORES = {
    Backend.nearest: (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8),
    Backend.hopfield: (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7),
    Backend.mushroom: (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5),
    Backend.hebbian: (0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6),
    Backend.boosting: (0.5,),
}
_BOOSTS = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 12.0)
_NEVER = 1e9


@dataclass(frozen=True)
class Track:
    """One sentence with a taught name of n tokens, among P phrases.

    Attributes:
        name_keys: (n, D), of the name's tokens along the right text.
        lead: (n,) how far each of them is above the likeliest token that begins no phrase.
        starts: (n, P) how far it is above the first token of each phrase.
        free_keys: (S, D), of the tokens written freely, away from the name.
        gaps: (S, P) how far each of them is above the first token of each phrase.
        entries: Of the name.
        seconds: Length of the sentence.
    """

    name_keys: Tensor
    lead: Tensor
    starts: Tensor
    free_keys: Tensor
    gaps: Tensor
    entries: range
    seconds: float


def main(
    cuts: Annotated[Path, typer.Argument(help="Names, alone and in sentences.")],
    cache: Annotated[Path, typer.Option(help="Folder for what was heard.")],
    more: Annotated[Path | None, typer.Option(help="Cuts of names that fill the memory.")] = None,
    number: Annotated[int, typer.Option(help="Names.")] = 50,
) -> None:
    """Print a line for each pair of strengths that no other pair beats in both."""
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    model, utterances = load_model(), list(CutSet.from_file(cuts))
    names = list(dict.fromkeys((cut.custom or {})["name"] for cut in utterances))[:number]
    ours = [cut for cut in utterances if (cut.custom or {})["name"] in names]
    tested = taught_alone(model, ours, cache / "lessons")
    heard = hear_all(model, [cut for cut in ours if not (cut.custom or {})["alone"]], cache)
    taught = [*tested, *others_of(model, more, cache)]
    tracks = list(_tracks(model, heard, tested, taught))
    for backend in Backend:
        for row in _frontier(backend, taught, tracks):
            print_json({"backend": backend.value, "names": len(taught), "sentences": len(tracks)} | row)


def _tracks(
    model: CifAsr, heard: Sequence[Heard], tested: Sequence[Taught], taught: Sequence[Taught]
) -> Iterator[Track]:
    parts = [each.lesson.parts[0][0] for each in taught]
    ends = torch.tensor([len(part.token_ids) for part in parts]).cumsum(0).tolist()
    firsts = torch.tensor([part.token_ids[0] for part in parts])
    for each in heard:
        ids = model.tokenizer.encode(each.text)
        for place, part in enumerate(parts[: len(tested)]):
            name = list(part.token_ids)
            at = next((p for p in range(len(ids)) if ids[p : p + len(name)] == name), None)
            if at is None:
                continue
            dictation = Dictation(ids, model.tokenizer.vocab_size)
            written(model, each.events, dictation)
            if len(dictation.hidden) < at + len(name):
                continue
            keys, log_probs = _read(model, torch.stack(dictation.hidden[at : at + len(name)]))
            own = log_probs.gather(1, torch.tensor(name)[:, None])
            rivals = log_probs.scatter(1, torch.tensor(name)[:, None], -_NEVER)
            free_keys, free = _read(model, each.hidden)
            far = torch.tensor([not at - 1 <= p <= at + len(name) for p in range(len(free))], dtype=torch.bool)
            gaps = free.gather(1, each.tokens[:, None]) - free[:, firsts]
            gaps[each.tokens[:, None] == firsts] = _NEVER
            begins = rivals[:, firsts]
            entries = range(ends[place] - len(name), ends[place])
            lead = own[:, 0] - rivals.max(1).values
            yield Track(keys, lead, own - begins, free_keys[far], gaps[far], entries, each.seconds)


def _read(model: CifAsr, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """Give the keys and the scores of what tokens are read from."""
    log_probs = model.decoder.logits(hidden)
    log_probs[:, [0, model.tokenizer.start_id, *model.tokenizer.prompt_ids, model.tokenizer.nothing_id]] = -_NEVER
    return torch.nn.functional.normalize(model.decoder.norm(hidden), dim=1), log_probs


def _frontier(backend: Backend, taught: Sequence[Taught], tracks: Sequence[Track]) -> Iterator[dict[str, float]]:
    memory = MEMORIES[backend]()
    keys = [each.lesson.parts[0][1] for each in taught]
    state = memory.begin(keys[0].shape[1])
    for lesson in keys:
        state = memory.write(state, lesson)
    starts = torch.tensor([0, *(len(lesson) for lesson in keys[:-1])]).cumsum(0)
    scores = [(memory.scores(state, track.name_keys), memory.scores(state, track.free_keys)) for track in tracks]
    hours = sum(track.seconds for track in tracks) / 3600
    rows = []
    for least, boost in product(_LEAST_SCORES[backend], _BOOSTS):
        found = begun = 0
        for track, (along, free) in zip(tracks, scores, strict=True):
            found += _is_found(track, along, starts, least, boost)
            begun += int(((free[:, starts] >= least) & (track.gaps < boost)).any(1).sum())
        rows.append((found / len(tracks), begun / hours, least, boost))
    fewest = torch.inf
    for recall, false_starts, least, boost in sorted(rows, key=lambda row: (-row[0], row[1])):
        if false_starts < fewest:
            fewest = false_starts
            yield {"recall": recall, "false_starts_per_hour": false_starts, "least_score": least, "boost": boost}


def _is_found(track: Track, scores: Tensor, starts: Tensor, least: float, boost: float) -> bool:
    """Say whether each token wins: with its bonus, against others that pay back, and against phrases that begin."""
    spent = 0.0
    for place, entry in enumerate(track.entries):
        own = boost if scores[place, entry] >= least else 0.0
        begun = track.starts[place][scores[place, starts] >= least]
        if own + spent + track.lead[place] <= 0 or (len(begun) and own + spent - boost + begun.min() <= 0):
            return False
        spent += own
    return True


if __name__ == "__main__":
    typer.run(main)
