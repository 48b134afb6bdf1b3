import dataclasses
import hashlib
import itertools
import json
import sys
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import CutSet

from cifasr.data.batches import load_cuts
from cifasr.errors import DataError

sys.path.append(str(Path(__file__).resolve().parents[2] / "recipes" / "synthetic"))  # a recipe is scripts, no package

import sentences
import speakers
import synthesise
from speakers import PseudoSpeaker, draw_speaker, vary_speaker

needs_hibari = pytest.mark.skipif(find_spec("hibari") is None, reason="needs hibari-tts: pip install -e '.[synthetic]'")

LINES = [
    f"{who} {what} {where}"
    for who, what, where in itertools.product(
        ["THE MAN", "A SMALL GIRL", "MY OLD FRIEND", "NOBODY"],
        ["WALKED SLOWLY", "SANG AND LAUGHED", "HAD NEVER BEEN", "WAITED FOR US"],
        ["TO THE SEA", "IN THE GARDEN BEHIND THE HOUSE", "NEAR THE RIVER"],
    )
]
NEUTRAL = PseudoSpeaker(
    "n", f0_hz=190, f0_range=1, formant_scale=1, tilt_db_per_octave=0, breath_db=-6, pace=1, pause_rate=0
)


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


def beep(text, speaker, rng):
    """Stand in for a reader: as long as the text, as high as the voice, and never twice the same."""
    seconds = np.arange(1600 * len(text.split())) / 16000
    return (np.sin(2 * np.pi * speaker.f0_hz * seconds) + 0.01 * rng.standard_normal(len(seconds))).astype(np.float32)


@pytest.fixture
def no_network(monkeypatch):
    """Counts what is read with a tone in place of the network."""
    calls = []

    class Beeper:
        def read(self, text, speaker, rng):
            calls.append(text)
            return beep(text, speaker, rng)

    monkeypatch.setattr(synthesise, "_reader", Beeper)
    monkeypatch.setattr(synthesise, "version", lambda package: "1")
    return calls


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.suffix == ".flac"
    }


def manifest(folder):
    return [cut.to_dict() for cut in CutSet.from_file(folder / "cuts_synthetic.jsonl.gz")]


def test_a_speaker_is_the_same_whenever_drawn_and_differs_from_every_other():
    drawn = [draw_speaker(7, number) for number in range(300)]

    assert draw_speaker(7, 299) == drawn[299]
    assert len({dataclasses.replace(speaker, name="") for speaker in drawn}) == 300
    assert len({speaker.name for speaker in drawn}) == 300
    assert draw_speaker(8, 0) != drawn[0]


def test_speakers_stay_in_their_ranges_and_tall_ones_are_low():
    drawn = [vary_speaker(draw_speaker(0, number), 0, number) for number in range(1000)]

    def values(name):
        return np.array([getattr(speaker, name) for speaker in drawn])

    for name in ("f0_hz", "formant_scale", "f0_range", "tilt_db_per_octave", "breath_db", "pace", "pause_rate"):
        low, high = getattr(speakers, name.upper())
        assert low <= values(name).min() < values(name).max() <= high
    assert 0.6 < np.corrcoef(np.log(values("f0_hz")), np.log(values("formant_scale")))[0, 1] < 0.9
    assert np.mean(values("f0_hz") < 160) == pytest.approx(0.45, abs=0.07)


def test_an_utterance_changes_the_reading_but_not_the_throat():
    speaker = draw_speaker(0, 5)

    first, second = vary_speaker(speaker, 0, 1), vary_speaker(speaker, 0, 2)

    assert first == vary_speaker(speaker, 0, 1)
    assert first.f0_hz != second.f0_hz
    assert first.pace != second.pace
    assert first.formant_scale == second.formant_scale == speaker.formant_scale
    assert abs(np.log(first.f0_hz / speaker.f0_hz)) < 0.2


@pytest.mark.parametrize(
    ("sentence", "speakable"),
    [
        ("HE DIDN'T SEE THE GOOD FOLKS' BOAT", True),
        ("He saw a well-made boat, and bought it.", True),
        ("HE SAW IT", False),  # three words
        (" ".join(["WORD"] * 36), False),
        ("HE SAW 12 BOATS THERE", False),
        ("HE TOUCHED THE DUKE S ARM", False),  # what is left of "duke's"
        ("I LL COME BACK SOON", False),
        ("HE SAW MR BROWN THERE", False),
        ("HE SAW THE CAFÉ AGAIN", False),
        ("", False),
    ],
)
def test_what_may_be_read_in_several_ways_is_left_out(sentence, speakable):
    assert sentences.is_speakable(sentence) == speakable


def test_the_plan_is_fixed_by_its_seed_and_uses_each_sentence_once():
    plan = list(sentences.plan_utterances(LINES, seed=3))

    assert plan == list(sentences.plan_utterances(LINES, seed=3))
    assert plan != list(sentences.plan_utterances(LINES, seed=4))
    assert Counter(itertools.chain(*(planned.sentences for planned in plan))) == Counter(LINES)
    assert [planned.number for planned in plan] == list(range(len(plan)))
    assert max(len(planned.sentences) for planned in plan) == 3
    assert max(len(planned.text.split()) for planned in plan) <= 50


def test_the_beginning_of_a_plan_spreads_over_the_text():
    text = [f"{number}" for number in range(10_000)]

    taken = itertools.islice(sentences.plan_utterances(text, seed=0), 300)
    places = np.array([int(sentence) for planned in taken for sentence in planned.sentences])

    assert np.histogram(places, bins=10, range=(0, 10_000))[0].min() > 0.06 * len(places)


def test_a_synthesiser_gets_sentences_as_people_write_them():
    rng = np.random.default_rng(0)

    spoken = sentences.spoken_form("HE KNEW THE OLD MAN BUT I SAID NOTHING TO HIM", 1.0, rng)
    flat = sentences.spoken_form("HE KNEW THE OLD MAN BUT I SAID NOTHING TO HIM", 0.0, rng)
    kept = sentences.spoken_form("Where is John?", 0.0, rng)

    assert spoken == "He knew the old man, but I said nothing to him."
    assert flat == "He knew the old man but I said nothing to him."
    assert kept == "Where is John?"


def test_a_compressed_text_reads_like_a_plain_one(text):
    import lzma

    packed = text.with_suffix(".txt.xz")
    packed.write_bytes(lzma.compress(text.read_bytes() + b"ONLY 3 WORDS HERE\n"))

    assert sentences.read_sentences(packed) == sentences.read_sentences(text) == LINES


def test_an_unusable_text_names_the_file(tmp_path):
    (tmp_path / "digits.txt").write_text("1 2 3 4 5\n")

    with pytest.raises(DataError, match=r"digits\.txt: none of its 1 lines"):
        sentences.read_sentences(tmp_path / "digits.txt")
    with pytest.raises(DataError, match=r"absent\.txt: wanted UTF-8 text"):
        sentences.read_sentences(tmp_path / "absent.txt")


def test_a_run_that_was_stopped_and_damaged_goes_on_to_the_same_corpus(text, tmp_path, no_network, monkeypatch):
    corpus = synthesise.Corpus(tmp_path / "a", seed=0, num_speakers=5)
    synthesise.synthesise(text, corpus, hours=0.01)
    whole, num_read = contents(corpus.folder), len(no_network)

    again = synthesise.Corpus(tmp_path / "b", seed=0, num_speakers=5)
    synthesise.synthesise(text, again, hours=0.004)  # stopped early
    removed = sorted(again.folder.rglob("*.flac"))[0]
    removed.unlink()
    no_network.clear()
    result = synthesise.synthesise(text, again, hours=0.01)

    assert contents(again.folder) == whole
    assert 0 < len(no_network) < num_read
    no_network.clear()
    assert synthesise.synthesise(text, again, hours=0.01) == result
    assert no_network == []


def test_cuts_hold_what_was_read_by_whom(text, tmp_path, no_network):
    corpus = synthesise.Corpus(tmp_path / "out", seed=1, num_speakers=3)

    result = synthesise.synthesise(text, corpus, hours=0.01)

    cuts = list(load_cuts([tmp_path / "out" / "cuts_synthetic.jsonl.gz"]))
    plan = list(sentences.plan_utterances(LINES, seed=1))
    assert [cut.supervisions[0].text for cut in cuts] == [planned.text for planned in plan[: len(cuts)]]
    assert {cut.supervisions[0].speaker for cut in cuts} <= {draw_speaker(1, number).name for number in range(3)}
    assert len(cuts) == result["cuts"] == len(contents(corpus.folder))
    seconds = [cut.duration for cut in cuts]
    assert sum(seconds[:-1]) < 36 <= sum(seconds)
    for cut in cuts:
        info = soundfile.info(cut.recording.sources[0].source)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert info.frames == cut.recording.num_samples
        assert 1.0 <= cut.duration <= 20.0
        level = 10 * np.log10(np.mean(cut.load_audio() ** 2))
        assert -32.1 < level < -19.9


def test_a_folder_holds_one_corpus(text, tmp_path, no_network):
    synthesise.synthesise(text, synthesise.Corpus(tmp_path / "out", seed=0, num_speakers=3), hours=0.002)

    with pytest.raises(DataError, match=r"begun with seed 0, wanted 1"):
        synthesise.synthesise(text, synthesise.Corpus(tmp_path / "out", seed=1, num_speakers=3), hours=0.002)
    assert json.loads((tmp_path / "out" / "settings.json").read_text())["seed"] == 0


def test_a_text_that_ends_too_soon_says_how_long_it_is(text, tmp_path, no_network):
    with pytest.raises(DataError, match=r"text\.txt: all of it gives 0\.0\d h, wanted 9 h"):
        synthesise.synthesise(text, synthesise.Corpus(tmp_path / "out", seed=0, num_speakers=3), hours=9)


@pytest.fixture(scope="module")
def reader():
    from voice import Reader

    return Reader()


def measured_f0_hz(samples):
    """Median over the loud frames of the pitch that an autocorrelation finds, in Hz."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), 1024)[::160]
    power = np.mean(frames**2, axis=1)
    frames = frames[power > power.mean()] * np.hanning(1024)
    lags = np.fft.irfft(np.abs(np.fft.rfft(frames, 4096)) ** 2)[:, :300]
    lags /= np.fft.irfft(np.abs(np.fft.rfft(np.hanning(1024), 4096)) ** 2)[:300]
    return float(np.median(16000 / (40 + np.argmax(lags[:, 40:250], axis=1))))


def centroid_hz(samples):
    """Mean frequency of the power between 200 Hz and 5 kHz."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    hz = np.fft.rfftfreq(len(samples), 1 / 16000)
    band = (hz > 200) & (hz < 5000)
    return float(np.sum(hz[band] * power[band]) / np.sum(power[band]))


SENTENCE = "My old friend walked slowly along the river, and nobody knew why."


@needs_hibari
@pytest.mark.parametrize(("f0_hz", "formant_scale"), [(95, 0.85), (120, 1.0), (190, 1.0), (280, 1.15)])
def test_a_voice_has_the_pitch_asked_for_whatever_its_formants(reader, f0_hz, formant_scale):
    speaker = dataclasses.replace(NEUTRAL, f0_hz=f0_hz, formant_scale=formant_scale)

    samples = reader.read(SENTENCE, speaker, np.random.default_rng(0))

    assert measured_f0_hz(samples) == pytest.approx(f0_hz, rel=0.12)


@needs_hibari
def test_formants_tilt_breath_and_pace_change_what_they_say(reader):
    def read(**changed):
        return reader.read(SENTENCE, dataclasses.replace(NEUTRAL, **changed), np.random.default_rng(0))

    neutral = read()

    np.testing.assert_array_equal(neutral, read())
    assert centroid_hz(read(formant_scale=1.2)) > 1.08 * centroid_hz(neutral)
    assert centroid_hz(read(tilt_db_per_octave=2.5)) > 1.2 * centroid_hz(neutral)
    assert centroid_hz(read(breath_db=9.0)) > 1.02 * centroid_hz(neutral)
    assert len(read(pace=1.35)) < 0.85 * len(neutral) < len(neutral) < 0.85 * len(read(pace=0.75))
    assert len(read(formant_scale=0.85)) == pytest.approx(len(neutral), rel=0.15)


@needs_hibari
def test_the_number_of_workers_changes_nothing(text, tmp_path):
    one, two = (synthesise.Corpus(tmp_path / name, seed=0, num_speakers=50) for name in ("one", "two"))

    synthesise.synthesise(text, one, hours=0.003, num_workers=1)
    synthesise.synthesise(text, two, hours=0.003, num_workers=2)

    made = contents(one.folder)
    assert made.items() <= contents(two.folder).items()
    assert [cut["id"] for cut in manifest(one.folder)] == [cut["id"] for cut in manifest(two.folder)]
    assert len(manifest(one.folder)) == len(made)
