"""Text to speech of many voices: lhotse cuts and 16 kHz FLAC. Run again, it makes only what is missing.

::

    python recipes/synthetic/synthesise.py TEXT.txt.xz --out FOLDER --hours 40 --speakers 2000
"""

import hashlib
import json
import os
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import soundfile
import typer
from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment
from sentences import PlannedUtterance, plan_utterances, read_sentences, spoken_form
from speakers import PseudoSpeaker, draw_speaker, vary_speaker

from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples, write_samples
from cifasr.cli.output import err_console, print_json
from cifasr.cli.progress import progress_bar
from cifasr.errors import BackendUnavailableError, CifasrError, DataError

if TYPE_CHECKING:
    from voice import Reader

_RECIPE = 1  # counts changes that make other audio of the same seed
_UTTERANCE_SECONDS = (1.0, 20.0)
_PAUSE_SECONDS = (0.2, 0.8)  # between two sentences
_EDGE_SECONDS = (0.1, 0.5)  # of silence at each end
_LEVEL_DBFS = (-32.0, -20.0)  # root mean square over the whole utterance
_HIGHEST_PEAK = 0.9
_AHEAD = 4  # utterances that wait for each worker
_LOG_EVERY_SAMPLES = 3600 * SAMPLE_RATE_HZ
_DELIVERY_DRAW = 5


@dataclass(frozen=True)
class Corpus:
    """What all utterances share.

    Attributes:
        folder: Where audio goes, below ``audio``.
        seed: Of every draw.
        num_speakers: How many there are to draw from.
    """

    folder: Path
    seed: int
    num_speakers: int


@dataclass(frozen=True)
class SpokenUtterance:
    """An utterance whose file is there.

    Attributes:
        planned: What was spoken.
        speaker: Name of the speaker.
        path: Its FLAC file.
        num_samples: At 16 kHz; 0 where the audio was shorter or longer than wanted, and there is no file.
    """

    planned: PlannedUtterance
    speaker: str
    path: Path
    num_samples: int


def main(
    text: Annotated[Path, typer.Argument(help="One sentence a line, UTF-8, plain or .xz.")],
    out: Annotated[Path, typer.Option(help="Folder for audio/ and cuts_synthetic.jsonl.gz.")],
    hours: Annotated[float, typer.Option(min=0.0, help="Speech wanted. More later keeps what is there.")] = 1.0,
    speakers: Annotated[int, typer.Option(min=1, help="Pseudo-speakers to draw from.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Of sentences, speakers and noise.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one core each.")] = 1,
) -> None:
    """Synthesise speech of many drawn voices, and write a manifest of cuts."""
    try:
        print_json(synthesise(text, Corpus(out, seed, speakers), hours=hours, num_workers=workers))
    except CifasrError as error:
        err_console.print(f"synthesise: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(2) from error


def synthesise(text: Path, corpus: Corpus, *, hours: float, num_workers: int = 1) -> dict[str, str | int | float]:
    """Make audio until there are ``hours`` of it, then write the manifest; files that are there are kept.

    Args:
        text: One sentence a line.
        corpus: Folder, seed and speakers.
        hours: Speech wanted, silences counted; passed by less than one utterance.
        num_workers: Processes; the result does not depend on it.

    Returns:
        What was made: cuts, hours, mean seconds, speakers, path.

    Raises:
        BackendUnavailableError: The synthesiser is not installed.
        DataError: The text cannot be used or ends before the hours, or the folder holds another corpus.
    """
    check_settings(text, corpus)
    plan = plan_utterances(read_sentences(text), corpus.seed)
    with closing(speak_in_order(plan, corpus, num_workers)) as spoken:
        made = _take_hours(spoken, hours, text)
    path = corpus.folder / "cuts_synthetic.jsonl.gz"
    write_cuts(path, map(_cut, made))
    seconds = sum(utterance.num_samples for utterance in made) / SAMPLE_RATE_HZ
    return {
        "cuts": len(made),
        "hours": round(seconds / 3600, 3),
        "mean_seconds": round(seconds / max(len(made), 1), 2),
        "speakers": len({utterance.speaker for utterance in made}),
        "path": str(path),
    }


def check_settings(text: Path, corpus: Corpus) -> None:
    """Keep what decides the audio beside it, so that one folder never holds two corpora.

    Raises:
        BackendUnavailableError: The synthesiser is not installed.
        DataError: The folder was begun with another text, seed, number of speakers or version, or cannot be made.
    """
    path = corpus.folder / "settings.json"
    try:
        wanted = {
            "text_sha256": hashlib.sha256(text.read_bytes()).hexdigest(),
            "seed": corpus.seed,
            "speakers": corpus.num_speakers,
            "hibari": version("hibari-tts"),
            "recipe": _RECIPE,
        }
        corpus.folder.mkdir(parents=True, exist_ok=True)
        found = json.loads(path.read_text()) if path.exists() else wanted
    except PackageNotFoundError as error:
        raise BackendUnavailableError("no hibari-tts here: pip install 'cifasr[synthetic]'") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{corpus.folder} or {text} cannot be used: {error}") from error
    different = [
        f"{key} {found.get(key)!r}, wanted {value!r}" for key, value in wanted.items() if found.get(key) != value
    ]
    if different:
        raise DataError(f"{corpus.folder} was begun with {'; '.join(different)}: choose another --out")
    part = path.with_suffix(".part")
    part.write_text(json.dumps(wanted, indent=1) + "\n")
    part.replace(path)


def speak_in_order(
    plan: Iterable[PlannedUtterance], corpus: Corpus, num_workers: int
) -> Generator[SpokenUtterance, None, None]:
    """Speak a plan with one or several processes; the results come in the plan's order.

    Several processes work ahead: where the caller stops, a few files lie there that only a longer corpus names.
    """
    if num_workers == 1:
        yield from map(partial(speak, corpus=corpus), plan)
        return
    plan = iter(plan)
    pool = ProcessPoolExecutor(num_workers, mp_context=get_context("spawn"))  # a loaded network does not survive a fork
    waiting = deque(pool.submit(speak, planned, corpus) for planned in islice(plan, _AHEAD * num_workers))
    try:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(speak, planned, corpus) for planned in islice(plan, 1))
    finally:
        pool.shutdown(cancel_futures=True)


def speak(planned: PlannedUtterance, corpus: Corpus) -> SpokenUtterance:
    """Make the file of one utterance, unless it is there."""
    rng = np.random.default_rng((_DELIVERY_DRAW, corpus.seed, planned.number))
    speaker = draw_speaker(corpus.seed, int(rng.integers(corpus.num_speakers)))
    path = corpus.folder / "audio" / speaker.name / f"{speaker.name}-{planned.number:07d}.flac"
    if path.exists():
        return SpokenUtterance(planned, speaker.name, path, soundfile.info(path).frames)
    samples = _perform(planned, vary_speaker(speaker, corpus.seed, planned.number), rng)
    shortest, longest = (seconds * SAMPLE_RATE_HZ for seconds in _UTTERANCE_SECONDS)
    if not shortest <= len(samples) <= longest:
        return SpokenUtterance(planned, speaker.name, path, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_samples(path, samples, SAMPLE_RATE_HZ)
    return SpokenUtterance(planned, speaker.name, path, len(samples))


def _perform(planned: PlannedUtterance, speaker: PseudoSpeaker, rng: np.random.Generator) -> Samples:
    """Read the sentences with pauses between and silence around them, (S,) at the level drawn."""
    pieces = [_silence(_EDGE_SECONDS, rng)]
    for place, sentence in enumerate(planned.sentences):
        if place:
            pieces.append(_silence(_PAUSE_SECONDS, rng))
        pieces.append(_reader().read(spoken_form(sentence, speaker.pause_rate, rng), speaker, rng))
    pieces.append(_silence(_EDGE_SECONDS, rng))
    samples = np.concatenate(pieces)
    loudness = float(np.sqrt(np.mean(np.square(samples))))
    peak = float(np.abs(samples).max())
    gain = 10 ** (rng.uniform(*_LEVEL_DBFS) / 20) / max(loudness, 1e-9)
    result: Samples = samples * np.float32(min(gain, _HIGHEST_PEAK / max(peak, 1e-9)))
    return result


@cache
def _reader() -> "Reader":
    """Load the network once in each process."""
    from voice import Reader  # hibari is optional, and a run that finds every file there does not load it

    return Reader()


def _silence(seconds: tuple[float, float], rng: np.random.Generator) -> Samples:
    return np.zeros(round(rng.uniform(*seconds) * SAMPLE_RATE_HZ), np.float32)


def _take_hours(spoken: Iterator[SpokenUtterance], hours: float, text: Path) -> list[SpokenUtterance]:
    """Take utterances until there are enough, and show how far it is."""
    wanted = round(hours * 3600 * SAMPLE_RATE_HZ)
    made: list[SpokenUtterance] = []
    num_samples, logged = 0, 0
    with progress_bar() as bar:
        task = bar.add_task("synthesise", total=wanted)
        while num_samples < wanted:
            utterance = next(spoken, None)
            if utterance is None:
                raise DataError(
                    f"{text}: all of it gives {num_samples / SAMPLE_RATE_HZ / 3600:.2f} h, wanted {hours:g} h"
                )
            if utterance.num_samples:
                made.append(utterance)
                num_samples += utterance.num_samples
                bar.update(task, completed=num_samples)
            if bar.disable and num_samples // _LOG_EVERY_SAMPLES > logged:
                logged = num_samples // _LOG_EVERY_SAMPLES
                err_console.print(f"synthesise: {num_samples / SAMPLE_RATE_HZ / 3600:.2f} of {hours:g} h")
    return made


def write_cuts(path: Path, cuts: Iterable[MonoCut]) -> None:
    """Write a manifest, whole or not at all.

    Raises:
        DataError: It cannot be written.
    """
    part = path.with_name(f".part-{os.getpid()}-{path.name}")  # lhotse goes by the suffix
    try:
        with CutSet.open_writer(part) as writer:
            for cut in cuts:
                writer.write(cut)
        part.replace(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def _cut(utterance: SpokenUtterance) -> MonoCut:
    name = utterance.path.stem
    seconds = utterance.num_samples / SAMPLE_RATE_HZ
    recording = Recording(
        id=name,
        sources=[AudioSource(type="file", channels=[0], source=str(utterance.path.absolute()))],
        sampling_rate=SAMPLE_RATE_HZ,
        num_samples=utterance.num_samples,
        duration=seconds,
    )
    supervision = SupervisionSegment(
        id=name,
        recording_id=name,
        start=0.0,
        duration=seconds,
        text=utterance.planned.text,
        language="en",
        speaker=utterance.speaker,
    )
    return MonoCut(id=name, start=0.0, duration=seconds, channel=0, supervisions=[supervision], recording=recording)


if __name__ == "__main__":
    typer.run(main)
