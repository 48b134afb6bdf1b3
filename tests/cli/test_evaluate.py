import asyncio
import json
import shutil
import threading
from contextlib import contextmanager

import pytest
import torch
from cifasr_serving.cifasr_model import load_cifasr_model
from cifasr_serving.config import ServerConfig
from cifasr_serving.server import SpeechServer
from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from typer import Typer
from typer.testing import CliRunner

from cifasr.audio.samples import read_samples, write_samples
from cifasr.cli import evaluate as module
from cifasr.cli.evaluate import evaluate
from cifasr.decoding.endpoint import TrailingSilence
from cifasr.decoding.streaming import StreamingOptions, transcribe
from cifasr.errors import ConfigError, DataError
from cifasr.models.pretrained import load_model
from cifasr.training.config import ValidationConfig
from cifasr.training.validation import validate

SECONDS = {"a-0": 1.0, "a-1": 1.5, "b-0": 2.0, "b-1": 2.5}
LONG_SECONDS = {"c-0": 31.0}  # past the longest segment of a stream


def run(*arguments):
    app = Typer()
    app.command()(evaluate)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def figures(*arguments):
    result = run(*arguments)
    assert result.exit_code == 0, result.exception
    (line,) = result.stdout.splitlines()
    return json.loads(line)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory, sound):
    folder = tmp_path_factory.mktemp("recordings")
    for seed, (name, seconds) in enumerate((SECONDS | LONG_SECONDS).items()):
        write_samples(folder / f"{name}.wav", sound(seconds, seed), 16_000)
    return folder


@pytest.fixture(scope="module")
def heard(babbler, recordings):
    """What the model hears as a stream and offline: a segment for each recording."""
    model = load_model(babbler)
    samples = {name: read_samples(recordings / f"{name}.wav") for name in SECONDS}
    return {
        mode: {name: transcribe(model, samples[name], options)[0] for name in SECONDS}
        for mode, options in (("streaming", StreamingOptions()), ("offline", StreamingOptions(chunk_ms=None)))
    }


@pytest.fixture
def cuts(recordings, tmp_path):
    """``cuts(references)``: a manifest of recordings with these transcripts; the speaker is the name's first letter."""

    def make(references):
        made = []
        for name, text in references.items():
            path = shutil.copy(recordings / f"{name}.wav", tmp_path)
            recording = Recording.from_file(path, recording_id=name)
            seconds = recording.duration
            said = SupervisionSegment(name, name, 0.0, seconds, text=text, speaker=name[0])
            made.append(MonoCut(name, 0.0, seconds, 0, supervisions=[said], recording=recording))
        CutSet.from_cuts(made).to_file(tmp_path / "cuts_test.jsonl.gz")
        return tmp_path / "cuts_test.jsonl.gz"

    return make


@pytest.fixture
def one_of_each(heard):
    """References that make of each hypothesis: nothing wrong, a deletion, an insertion, a substitution."""
    text = {name: segment.text for name, segment in heard["streaming"].items()}
    assert all(len(words.split()) >= 2 for words in text.values())
    return {
        "a-0": text["a-0"].upper(),
        "a-1": text["a-1"] + " wall",
        "b-0": text["b-0"].rsplit(" ", 1)[0],
        "b-1": text["b-1"].rsplit(" ", 1)[0] + " ten",
    }


def test_the_errors_of_known_hypotheses_are_counted(babbler, cuts, one_of_each, heard):
    row = figures(cuts(one_of_each), "--model", babbler)

    num_words = sum(len(text.split()) for text in one_of_each.values())
    assert (row["substitutions"], row["deletions"], row["insertions"]) == (1, 1, 1)
    assert row["reference_words"] == num_words
    assert row["wer"] == pytest.approx(3 / num_words, abs=1e-5)
    assert row["wer_interval"][0] < row["wer"] < row["wer_interval"][1]
    assert row["cer"] > 0
    assert (row["utterances"], row["speakers"], row["audio_seconds"]) == (4, 2, 7.0)
    assert (row["model"], row["mode"], row["chunk_ms"]) == ("babbler", "streaming", 640)
    assert row["rtf"] > 0
    assert row["threads"] == torch.get_num_threads()


def test_options_of_the_recogniser_reach_it_and_are_told(babbler, cuts, heard):
    options = StreamingOptions(chunk_ms=320, left_context_ms=640, max_history_tokens=16)
    path = cuts({name: segment.text for name, segment in heard["streaming"].items()})
    model = load_model(babbler)
    texts = {cut.id: transcribe(model, cut.load_audio()[0], options)[0].text for cut in CutSet.from_file(path)}
    assert texts != {name: segment.text for name, segment in heard["streaming"].items()}

    flags = ["--chunk-ms", "320", "--left-context-ms", "640", "--set", "max_history_tokens=16"]
    row = figures(cuts(texts), "--model", babbler, *flags)

    assert (row["wer"], row["chunk_ms"], row["left_context_ms"], row["max_history_tokens"]) == (0.0, 320, 640, 16)


def test_firings_are_compared_with_the_tokens_of_the_reference(babbler, cuts, heard):
    segments = [heard["streaming"][name] for name in ("a-0", "a-1")]
    references = [" ".join(["two"] * (segments[0].num_firings - 2)), " ".join(["two"] * (segments[1].num_firings + 1))]

    row = figures(cuts(dict(zip(("a-0", "a-1"), references, strict=True))), "--model", babbler)

    assert (row["firings_minus_tokens"], row["firings_minus_tokens_abs"]) == (0.5, 1.5)  # 2 too many, 1 too few
    calls = sum(segment.num_decoder_calls for segment in segments)
    tokens = sum(len(segment.token_ids) for segment in segments)
    assert row["decoder_calls_per_token"] == pytest.approx(calls / tokens, abs=1e-4)


def test_offline_hears_each_utterance_whole(babbler, cuts, heard):
    streamed, texts = (
        {name: segment.text for name, segment in heard[mode].items()} for mode in ("streaming", "offline")
    )
    assert texts != streamed
    path = cuts(texts)

    row = figures(path, "--model", babbler, "--mode", "offline")

    assert (row["wer"], row["mode"], row["chunk_ms"]) == (0.0, "offline", None)


def test_hypotheses_and_the_worst_of_them_are_written(babbler, cuts, one_of_each, heard, tmp_path):
    figures(cuts(one_of_each), "--model", babbler, "--out", tmp_path / "out", "--worst", "3")

    rows = [json.loads(line) for line in (tmp_path / "out" / "hypotheses.jsonl").read_text().splitlines()]
    assert [(row["id"], row["speaker"], row["word_errors"]) for row in rows] == [
        ("a-0", "a", 0),
        ("a-1", "a", 1),
        ("b-0", "b", 1),
        ("b-1", "b", 1),
    ]
    assert {row["id"]: row["hyp"] for row in rows} == {name: s.text for name, s in heard["streaming"].items()}
    assert rows[1]["ref"] == one_of_each["a-1"]
    blocks = (tmp_path / "out" / "worst.txt").read_text().split("\n\n")
    assert len(blocks) == 3
    (deletion,) = [block for block in blocks if block.startswith("a-1")]
    head, *pairs = deletion.splitlines()
    assert head == f"a-1  speaker a  1 errors in {len(one_of_each['a-1'].split())} words"
    said, got, marks = pairs[-3:]  # a long text is cut into several
    assert (said.split()[-1], got.split()[-1], marks.strip()) == ("wall", "****", "D")
    lines = [line.removeprefix("REF: ") for line in pairs if line.startswith("REF: ")]
    assert " ".join(lines) == one_of_each["a-1"]


def test_utterances_are_chosen_all_over_the_cuts(babbler, cuts, one_of_each, tmp_path):
    row = figures(cuts(one_of_each), "--model", babbler, "--max-utterances", "2", "--out", tmp_path / "out")

    rows = [json.loads(line) for line in (tmp_path / "out" / "hypotheses.jsonl").read_text().splitlines()]
    assert [line["id"] for line in rows] == ["a-0", "b-0"]
    assert row["speakers"] == 2


def test_validation_counts_what_evaluation_counts(babbler, cuts, one_of_each):
    path = cuts(one_of_each)

    report = validate(load_model(babbler), list(CutSet.from_file(path)), ValidationConfig())

    assert round(report.wer, 5) == figures(path, "--model", babbler)["wer"]


@contextmanager
def served(model):
    """A server on a loop and thread of its own, as another process would be."""
    loop, addresses, ready = asyncio.new_event_loop(), [], threading.Event()
    stopping = asyncio.Event()

    async def serve():
        server = SpeechServer([model], ServerConfig(linger_s=0.1))
        addresses.append(await server.start("127.0.0.1", 0))
        ready.set()
        await stopping.wait()
        await server.kill()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(60)
        yield addresses[0]
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(60)
        loop.close()


def test_a_server_gives_the_text_of_a_stream(babbler, cuts, one_of_each, heard, tmp_path):
    with served(load_cifasr_model(babbler, torch.get_num_threads())) as address:
        row = figures(cuts(one_of_each), "--server", address, "--out", tmp_path / "out")

    rows = [json.loads(line) for line in (tmp_path / "out" / "hypotheses.jsonl").read_text().splitlines()]
    assert {line["id"]: line["hyp"] for line in rows} == {name: s.text for name, s in heard["streaming"].items()}
    assert (row["mode"], row["server"], row["insertions"]) == ("server", address, 1)
    assert not row.keys() & {"firings_minus_tokens", "decoder_calls_per_token", "model", "threads"}


def test_a_long_utterance_is_cut_where_a_server_cuts_it(babbler, cuts, recordings):
    samples = read_samples(recordings / "c-0.wav")
    segments = transcribe(load_model(babbler), samples, endpointer=TrailingSilence())
    assert len(segments) == 2

    row = figures(cuts({"c-0": " ".join(segment.text for segment in segments)}), "--model", babbler)

    assert (row["wer"], row["wer_interval"]) == (0.0, None)


def test_figures_for_people_are_on_stderr(babbler, cuts, one_of_each):
    result = run(cuts(one_of_each), "--model", babbler)

    wer = 100 * json.loads(result.stdout)["wer"]
    assert f"{wer:.2f} %" in result.stderr
    assert "decoder calls per token" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "offline", "--chunk-ms", "640"], "chunk_ms: wanted none, since offline has no chunks, got 640"),
        (["--server", "here:1", "--chunk-ms", "640"], "--server here:1: wanted no --model"),
        (["--server", "here:1", "--mode", "streaming"], "--server here:1: wanted no --model"),
        (["--server", "here:1", "--set", "max_history_tokens=64"], "--server here:1: wanted no --model"),
        (["--set", "chunk=640"], "unknown key chunk; did you mean 'chunk_ms'?"),
        (["--worst", "3"], "--worst: wanted --out"),
        (["--chunk-ms", "650"], "chunk_ms: wanted a multiple of 20"),
    ],
)
def test_an_option_that_cannot_be_had_is_an_error(babbler, cuts, arguments, message):
    model = [] if "--server" in arguments else ["--model", babbler]

    result = run(cuts({"a-0": "one"}), *model, *arguments)

    assert isinstance(result.exception, ConfigError)
    assert message in str(result.exception)
    assert result.stdout == ""


def test_cuts_without_a_word_are_an_error(babbler, cuts):
    result = run(cuts({"a-0": ""}), "--model", babbler)

    assert isinstance(result.exception, DataError)
    assert "cuts without words" in str(result.exception)


def test_audio_that_cannot_be_decoded_is_an_error_that_names_the_cut(babbler, cuts, tmp_path):
    path = cuts({"a-0": "one", "a-1": "two"})
    (tmp_path / "a-1.wav").write_bytes(b"not audio")

    result = run(path, "--model", babbler)

    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith("cut a-1: its audio cannot be decoded")


def test_without_the_server_package_the_error_says_so(cuts, monkeypatch):
    monkeypatch.setattr(module, "entry_points", lambda **group: [])

    result = run(cuts({"a-0": "one"}), "--server", "here:1")

    assert isinstance(result.exception, ConfigError)
    assert "cifasr_serving" in str(result.exception)
