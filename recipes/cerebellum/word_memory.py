"""What a word memory brings, and what it costs: recall, false accepts, error rate of the rest, bytes and time.

::

    python recipes/cerebellum/word_memory.py words CUTS --text TEXT.txt.xz --cache FOLDER
    python recipes/cerebellum/word_memory.py names CUTS --more CUTS --cache FOLDER

`words` takes rare words of real speech that are said in several utterances, and teaches each from the first. `names`
takes what `recipes/synthetic/names.py` made, and teaches each name from the recording of it alone. What the decoder is
given is recorded once; an utterance is decoded again only where the memory changes a token of it.
"""

import lzma
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import jiwer
import torch
import typer
from heard import Heard, cached, hear_all
from lhotse import CutSet
from lhotse.cut import Cut

from cifasr.cli.output import err_console, print_json
from cifasr.cli.progress import progress_bar
from cifasr.data.batches import load_samples
from cifasr.decoding.case import restore_case
from cifasr.decoding.memory.word_memory import Backend, Lesson, WordMemory
from cifasr.errors import CifasrError
from cifasr.models.cif_asr import CifAsr
from cifasr.models.pretrained import load_model
from cifasr.text.normalize import normalize_for_wer

app = typer.Typer(no_args_is_help=True)

_RARE = 20
"""Times in a million words of the text, at most."""

_SIZES = (1, 10, 100, 1000)
_SAMPLES_OF_ONE = 8
"""How many memories of one word are averaged."""


@dataclass(frozen=True, eq=False)
class Taught:
    """A word, its lesson, and how long that took.

    Attributes:
        word: Normalised, as it is counted.
        cut_id: The lesson's utterance, which is not scored; empty for one that is not among the scored.
        lesson: What was heard.
        seconds: Processor time of hearing it, the encoder's included.
    """

    word: str
    cut_id: str
    lesson: Lesson
    seconds: float


@dataclass(frozen=True)
class Bench:
    """What everything is measured on.

    Attributes:
        model: The recogniser.
        heard: The scored utterances.
        tested: Words that are said in them.
        others: Words that are not, to fill the memory.
    """

    model: CifAsr
    heard: Sequence[Heard]
    tested: Sequence[Taught]
    others: Sequence[Taught]


_Cuts = Annotated[Path, typer.Argument(help="Utterances with transcripts.")]
_Cache = Annotated[Path, typer.Option(help="Folder for what was heard.")]
_Backends = Annotated[list[Backend] | None, typer.Option("--backend", help="All without it.")]
_Sizes = Annotated[list[int] | None, typer.Option("--size", help="Words taught.", show_default="1 10 100 1000")]
_More = Annotated[Path | None, typer.Option(help="Cuts of names that fill the memory.")]


@app.command()
def words(
    cuts: _Cuts,
    text: Annotated[Path, typer.Option(help="Text that says which words are rare, plain or .xz.")],
    cache: _Cache,
    more: _More = None,
    backend: _Backends = None,
    size: _Sizes = None,
) -> None:
    """Rare words of real speech, each taught from the first utterance that has it."""
    model = _model()
    utterances = sorted(CutSet.from_file(cuts), key=lambda cut: cut.id)
    heard = hear_all(model, utterances, cache)
    counts = cached(cache / "counts.pt", partial(_counts, text))
    by_id = {cut.id: (cut, each) for cut, each in zip(utterances, heard, strict=True)}
    chosen = ((word, *by_id[cut_id]) for word, cut_id in _rare_words(heard, counts))
    tested = _lessons(
        model, ((w, cut, partial(_taught_text, model, each, w)) for w, cut, each in chosen), cache / "lessons"
    )
    _measure(Bench(model, heard, tested, others_of(model, more, cache)), backend, size)


@app.command()
def names(
    cuts: _Cuts,
    cache: _Cache,
    more: _More = None,
    skip: Annotated[int, typer.Option(help="Names to leave out first.")] = 0,
    number: Annotated[int, typer.Option(help="How many.")] = 1000,
    backend: _Backends = None,
    size: _Sizes = None,
) -> None:
    """Synthesised names, each taught from the recording of it alone."""
    model = _model()
    utterances = list(CutSet.from_file(cuts))
    chosen = list(dict.fromkeys(_custom(cut)["name"] for cut in utterances))[skip : skip + number]
    ours = [cut for cut in utterances if _custom(cut)["name"] in chosen]
    heard = hear_all(model, [cut for cut in ours if not _custom(cut)["alone"]], cache)
    tested = taught_alone(model, ours, cache / "lessons")
    _measure(Bench(model, heard, tested, others_of(model, more, cache)), backend, size)


def _measure(bench: Bench, backends: Sequence[Backend] | None, sizes: Sequence[int] | None) -> None:
    for backend in backends or list(Backend):
        for size in sizes or _SIZES:
            for row in _rows(bench, backend, size):
                print_json({"backend": backend.value, "size": size} | row)


def _rows(bench: Bench, backend: Backend, size: int) -> Iterable[dict[str, Any]]:
    """Measure with so many words taught; the largest memory also after the others, and all, were forgotten."""
    if size == 1:
        step = max(1, len(bench.tested) // _SAMPLES_OF_ONE)
        parts = [_with(bench, backend, [one]) for one in bench.tested[::step][:_SAMPLES_OF_ONE]]
        yield _rates(parts)
        return
    taught = [*bench.tested, *bench.others][:size]
    yield _rates([_with(bench, backend, taught)])
    if size == max(_SIZES):
        yield {"forgotten": "others"} | _rates([_with(bench, backend, taught, forget=set(bench.others))])


def _with(
    bench: Bench, backend: Backend, taught: Sequence[Taught], forget: frozenset[Taught] | set[Taught] = frozenset()
) -> dict[str, Any]:
    memory = WordMemory(bench.model, "", backend)
    begin = time.process_time()
    for each in taught:
        memory.learn(each.lesson)
    write_s = time.process_time() - begin
    for each in forget & set(taught):
        memory.forget(each.lesson.parts[0][0].text)
    biasing = memory.biasing()
    begin = time.process_time()
    changed = {each.cut_id: text for each in bench.heard if (text := each.rewritten(bench.model, biasing)) is not None}
    num_bytes = memory.num_bytes / max(1, len(memory.phrases))
    tested = [each for each in taught if each in bench.tested]
    cost = {
        "bytes_per_word": round(num_bytes),
        "hear_ms": round(1e3 * sum(each.seconds for each in taught) / len(taught), 1),
        "write_ms": round(1e3 * write_s / len(taught), 3),
        "query_us": round(_query_us(memory, bench)),
        "decoded_again": len(changed),
    }
    before = {f"{key}_before": value for key, value in _scored(bench, tested, {}).items()}
    return _scored(bench, tested, changed) | before | cost


def _query_us(memory: WordMemory, bench: Bench) -> float:
    """Processor time of one firing's question, in microseconds."""
    biasing = memory.biasing()
    state, hidden = biasing.begin(), bench.heard[0].hidden
    begin = time.process_time()
    for row in hidden:
        biasing.bonus(state, row[None])
    return 1e6 * (time.process_time() - begin) / len(hidden)


def _scored(bench: Bench, tested: Sequence[Taught], changed: dict[str, str]) -> dict[str, Any]:
    """Count taught words said, found, and written where they were not said; and the errors of all other words."""
    lesson_of = {each.word: each.cut_id for each in tested}
    said = found = false = errors = others = 0
    for each in bench.heard:
        reference = normalize_for_wer(each.text).split()
        hypothesis = normalize_for_wer(changed.get(each.cut_id, each.hypothesis)).split()
        ours = Counter(w for w in reference if w in lesson_of)
        theirs = Counter(w for w in hypothesis if w in lesson_of)
        false += (theirs - ours).total()
        here = Counter({w: n for w, n in ours.items() if lesson_of[w] != each.cut_id})
        said += here.total()
        found += (here & theirs).total()
        wrong, total = _errors_of_the_rest(reference, hypothesis, set(lesson_of))
        errors, others = errors + wrong, others + total
    hours = sum(each.seconds for each in bench.heard) / 3600
    return {"said": said, "found": found, "false": false, "hours": hours, "errors": errors, "others": others}


def _errors_of_the_rest(reference: list[str], hypothesis: list[str], taught: set[str]) -> tuple[int, int]:
    """Errors on words that were not taught, and how many of these there are; what is inserted counts as theirs."""
    errors = 0
    if not reference:
        return len(hypothesis), 0
    for chunk in jiwer.process_words(" ".join(reference), " ".join(hypothesis)).alignments[0]:
        if chunk.type == "insert":
            errors += chunk.hyp_end_idx - chunk.hyp_start_idx
        elif chunk.type != "equal":
            errors += sum(word not in taught for word in reference[chunk.ref_start_idx : chunk.ref_end_idx])
    return errors, sum(word not in taught for word in reference)


def _rates(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put the counts of several memories together, as rates; costs are averaged."""
    total = {key: sum(part[key] for part in parts) for key in parts[0]}
    return {
        **_shares(total, ""),
        **(_shares(total, "_before") if "said_before" in total else {}),
        **{key: round(value / len(parts), 3) for key, value in total.items()},
    }


def _shares(total: dict[str, Any], when: str) -> dict[str, Any]:
    said, hours = total.pop(f"said{when}"), total.pop(f"hours{when}")
    return {
        f"recall{when}": round(total.pop(f"found{when}") / max(1, said), 4),
        f"said{when}": said,
        f"false_per_hour{when}": round(total.pop(f"false{when}") / hours, 2),
        f"wer_of_the_rest{when}": round(total.pop(f"errors{when}") / total.pop(f"others{when}"), 5),
    }


def _model() -> CifAsr:
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    return load_model()


def _custom(cut: Cut) -> dict[str, Any]:
    return dict(cut.custom or {})


def _counts(path: Path) -> tuple[Counter[str], int]:
    content = path.read_bytes()
    content = lzma.decompress(content) if path.suffix == ".xz" else content
    counts = Counter(content.decode("utf-8").lower().split())
    return counts, counts.total()


def _rare_words(heard: Sequence[Heard], counts: tuple[Counter[str], int]) -> list[tuple[str, str]]:
    """Choose words of three letters or more that are rare in a text, and here in several utterances; with the first."""
    first: dict[str, str] = {}
    again: set[str] = set()
    for each in heard:
        for word in set(normalize_for_wer(each.text).split()):
            if first.setdefault(word, each.cut_id) != each.cut_id:
                again.add(word)
    return [(w, first[w]) for w in sorted(again) if len(w) >= 3 and counts[0][w] <= _RARE * counts[1] / 1e6]


def _taught_text(model: CifAsr, heard: Heard, word: str) -> str:
    """Give names the capitals that the model would give them, and mark the word."""
    frames = heard.frames()
    return _marked(restore_case(model, frames, torch.tensor([frames.shape[1]]), [heard.text])[0], word)


def _marked(text: str, word: str) -> str:
    """Put a word in brackets where it is first said."""
    said = text.split()
    place = next(i for i, each in enumerate(said) if normalize_for_wer(each) == word)
    return " ".join([*said[:place], f"[{said[place]}]", *said[place + 1 :]])


def _lessons(model: CifAsr, what: Iterable[tuple[str, Cut, Callable[[], str]]], cache: Path) -> list[Taught]:
    """Hear lessons: of each word its cut, and what gives the text to teach; those that fail are told and left."""
    memory, taught = WordMemory(model, ""), []

    def hear(cut: Cut, text: Callable[[], str]) -> tuple[Lesson | str, float]:
        said, samples = text(), load_samples(cut)
        begin = time.process_time()
        try:
            lesson: Lesson | str = memory.hear(samples, said)
        except CifasrError as error:
            lesson = str(error)
        return lesson, time.process_time() - begin

    with progress_bar() as bar:
        for word, cut, text in bar.track(list(what), description="teach"):
            lesson, seconds = cached(cache / f"{cut.id}-{word}.pt", partial(hear, cut, text))  # type: ignore[misc]
            if isinstance(lesson, str):
                err_console.print(f"{word}: {lesson}")
            else:
                taught.append(Taught(word, cut.id, lesson, seconds))
    return taught


def taught_alone(model: CifAsr, cuts: Iterable[Cut], cache: Path) -> list[Taught]:
    """Hear the lessons of names, each from the recording of it alone."""
    alone = [cut for cut in cuts if _custom(cut)["alone"]]
    names = [str(_custom(cut)["name"]) for cut in alone]
    what = ((normalize_for_wer(name), cut, partial(str, name)) for name, cut in zip(names, alone, strict=True))
    return _lessons(model, what, cache)


def others_of(model: CifAsr, more: Path | None, cache: Path) -> list[Taught]:
    """Hear the names that only fill the memory."""
    return [] if more is None else taught_alone(model, CutSet.from_file(more), cache / "lessons")


if __name__ == "__main__":
    app()
