"""A corpus laid out like LibriSpeech to lhotse cuts: one manifest a split.

::

    CORPUS/[LibriSpeech/]SPLIT/SPEAKER/CHAPTER/ID.flac
                                               SPEAKER-CHAPTER.trans.txt      lines of "ID WORDS ..."
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import soundfile
from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment

from cifasr.audio.samples import read_samples
from cifasr.errors import AudioError, DataError

Progress = Callable[[str, int, int], None]
"""Called with the split, how many of its files are checked, and how many there are."""

_LANGUAGE = "en"
_LAST_BLOCK_SAMPLES = 4096
_NUM_THREADS = 8  # the checks wait for the disk, and decoding leaves Python's lock


@dataclass(frozen=True)
class SplitReport:
    """What became of one split.

    Attributes:
        split: Its name.
        path: The manifest written; None where no utterance was left.
        num_utterances: How many it holds.
        num_speakers: How many speakers they have.
        seconds: How long they are together.
        faults: One line for each thing that was left out, with the file and what is wrong with it.
    """

    split: str
    path: Path | None
    num_utterances: int
    num_speakers: int
    seconds: float
    faults: tuple[str, ...]


def prepare_librispeech(
    corpus: Path,
    out: Path,
    *,
    splits: list[str] | None = None,
    skip_bad: bool = False,
    verify: bool = False,
    progress: Progress | None = None,
) -> list[SplitReport]:
    """Write ``out/cuts_SPLIT.jsonl.gz`` for each split: a cut an utterance, in the order of their paths.

    Every FLAC has its header read and its last block decoded, which finds files that are cut short. Damage in
    the middle is found only with ``verify``, which decodes everything (about a minute for 20 hours of speech).
    Nothing is written before every split has been checked, and each manifest is written whole or not at all.

    Args:
        corpus: Folder of the splits, or the folder that holds the official ``LibriSpeech`` folder.
        out: Folder for the manifests; made where absent.
        splits: Names of the splits; None for all that are there.
        skip_bad: Leave out what is wrong and report it, in place of the error.
        verify: Decode all audio.
        progress: Called after each file.

    Returns:
        One report a split, in the order asked for, or sorted by name.

    Raises:
        DataError: There is no such corpus or split, or, without ``skip_bad``, audio cannot be read, audio or a
            transcript lacks the other, or a split is empty: the message lists every fault.
    """
    root = corpus / "LibriSpeech" if (corpus / "LibriSpeech").is_dir() else corpus
    found = [_scan_split(root / split, verify, progress) for split in _choose_splits(root, splits)]
    faults = [fault for split in found for fault in split.faults]
    if faults and not skip_bad:
        raise DataError("\n  ".join([f"corpus {root}: {len(faults)} faults (--skip-bad leaves them out):", *faults]))
    out.mkdir(parents=True, exist_ok=True)
    return [_write_split(split, out) for split in found]


@dataclass(frozen=True)
class _Utterance:
    utterance_id: str
    path: Path
    speaker: str
    text: str
    num_samples: int
    sample_rate_hz: int


@dataclass
class _Split:
    name: str
    utterances: list[_Utterance] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def _choose_splits(root: Path, splits: list[str] | None) -> list[str]:
    if not root.is_dir():
        raise DataError(f"corpus {root}: no such folder")
    present = sorted(path.name for path in root.iterdir() if path.is_dir() and any(path.glob("*/*/*.trans.txt")))
    if splits is None and not present:
        raise DataError(f"corpus {root}: no split: wanted SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt in it")
    absent = [split for split in splits or [] if not (root / split).is_dir()]
    if absent:
        raise DataError(f"corpus {root}: no split {', '.join(absent)}; there are {', '.join(present) or 'none'}")
    return present if splits is None else list(dict.fromkeys(splits))


def _scan_split(folder: Path, verify: bool, progress: Progress | None) -> _Split:
    split = _Split(folder.name)
    transcripts = _read_transcripts(folder, split.faults)
    paths = sorted(folder.glob("*/*/*.flac"))
    names: set[str] = set()
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        for done, checked in enumerate(pool.map(partial(_check_audio, verify=verify), paths), start=1):
            path = paths[done - 1]
            text = transcripts.pop((path.parent, path.stem), None)
            if isinstance(checked, str):
                split.faults.append(f"{path}: {checked}")
            elif text is None:
                split.faults.append(f"{path}: no transcript: no line of {path.stem} in {_transcript_name(path)}")
            elif path.stem in names:
                split.faults.append(f"{path}: a second utterance of this name in the split")
            else:
                names.add(path.stem)
                split.utterances.append(_Utterance(path.stem, path, path.parts[-3], text, *checked))
            if progress is not None:
                progress(split.name, done, len(paths))
    split.faults += [f"{chapter / name}.flac: no such file, but a transcript of it" for chapter, name in transcripts]
    if not split.utterances:
        split.faults.append(f"{folder}: an empty split: no utterance that can be used")
    return split


def _transcript_name(path: Path) -> str:
    return f"{path.parts[-3]}-{path.parts[-2]}.trans.txt"


def _read_transcripts(folder: Path, faults: list[str]) -> dict[tuple[Path, str], str]:
    """Return the text of each (chapter's folder, utterance id)."""
    transcripts: dict[tuple[Path, str], str] = {}
    for path in sorted(folder.glob("*/*/*.trans.txt")):
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{path}: not a transcript: {error}")
            continue
        for number, line in enumerate(lines, start=1):
            name, _, text = line.strip().partition(" ")
            if not text:
                faults.append(f"{path}:{number}: wanted 'ID WORDS ...', got {line!r}")
            elif (path.parent, name) in transcripts:
                faults.append(f"{path}:{number}: a second transcript of {name}")
            else:
                transcripts[path.parent, name] = text
    return transcripts


def _check_audio(path: Path, *, verify: bool) -> tuple[int, int] | str:
    """Return the number of samples and the sample rate, or what is wrong with the file."""
    try:
        with soundfile.SoundFile(path) as file:
            num_samples, sample_rate_hz, num_channels = file.frames, file.samplerate, file.channels
            if num_samples == 0:
                return "holds no samples"
            if num_channels != 1:
                return f"{num_channels} channels, wanted 1"
            num_last = min(num_samples, _LAST_BLOCK_SAMPLES)
            file.seek(num_samples - num_last)
            file.read(num_last)  # raises where the file is cut short
        if verify:
            read_samples(path, sample_rate_hz=sample_rate_hz)
    except soundfile.LibsndfileError as error:
        return f"not audio that can be decoded, damaged or truncated: {error.error_string}"
    except AudioError as error:
        return str(error).removeprefix(f"{path}: ")
    return num_samples, sample_rate_hz


def _write_split(split: _Split, out: Path) -> SplitReport:
    path = out / f"cuts_{split.name}.jsonl.gz"
    if split.utterances:
        _write_cuts(path, map(_cut, split.utterances))
    return SplitReport(
        split=split.name,
        path=path if split.utterances else None,
        num_utterances=len(split.utterances),
        num_speakers=len({utterance.speaker for utterance in split.utterances}),
        seconds=sum(utterance.num_samples / utterance.sample_rate_hz for utterance in split.utterances),
        faults=tuple(split.faults),
    )


def _write_cuts(path: Path, cuts: Iterable[MonoCut]) -> None:
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


def _cut(utterance: _Utterance) -> MonoCut:
    name = utterance.utterance_id
    seconds = utterance.num_samples / utterance.sample_rate_hz
    recording = Recording(
        id=name,
        sources=[AudioSource(type="file", channels=[0], source=str(utterance.path.absolute()))],
        sampling_rate=utterance.sample_rate_hz,
        num_samples=utterance.num_samples,
        duration=seconds,
    )
    supervision = SupervisionSegment(
        id=name,
        recording_id=name,
        start=0.0,
        duration=seconds,
        text=utterance.text,
        language=_LANGUAGE,
        speaker=utterance.speaker,
    )
    return MonoCut(id=name, start=0.0, duration=seconds, channel=0, supervisions=[supervision], recording=recording)
