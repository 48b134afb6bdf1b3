import gzip
import random

import numpy as np
import pytest
import torch
from lhotse import CutSet, MonoCut, Recording, RecordingSet

from cifasr.audio.fbank import SILENCE_FEATURE, log_mel
from cifasr.audio.samples import write_samples
from cifasr.data.batches import (
    Utterance,
    bucketed_batches,
    collate,
    load_cuts,
    load_utterance,
    token_ends,
    written_style,
)
from cifasr.errors import DataError
from cifasr.text.tokenizer import tokenizer_from_pieces
from tests.made_speech import make_cut, make_cuts

TOKENIZER = tokenizer_from_pieces(
    {" go": 9, " left": 9, " Go": 9, " G": 1, " g": 1, "o": 1, " le": 1, "ft": 1, "e": 1, " ": 1, "left": 1}
)


@pytest.fixture
def many_cuts(tmp_path):
    drawn = random.Random(0)
    cuts = [MonoCut(id=f"cut-{i}", start=0, duration=drawn.uniform(1, 10), channel=0) for i in range(60)]
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl")
    return load_cuts([tmp_path / "cuts.jsonl"])


def test_manifests_are_read_one_after_the_other(tmp_path):
    paths = [make_cuts(tmp_path, split, 2) for split in ("first", "second")]

    assert [cut.id for cut in load_cuts(paths)] == ["first-0", "first-1", "second-0", "second-1"]


def test_cuts_are_read_as_they_are_used(tmp_path):
    paths = [make_cuts(tmp_path, split, 2) for split in ("first", "second")]

    assert load_cuts(paths[:1]).is_lazy
    assert load_cuts(paths).is_lazy


def test_an_absent_manifest_is_named_with_what_makes_it(tmp_path):
    with pytest.raises(DataError, match=r"absent\.jsonl\.gz: no such cuts; `cifasr prepare` makes them"):
        load_cuts([tmp_path / "absent.jsonl.gz"])


@pytest.mark.parametrize("content", [b"not gzip", gzip.compress(b"not json\n"), gzip.compress(b'{"id": 1}\n')])
def test_what_is_no_manifest_is_named(tmp_path, content):
    (tmp_path / "bad.jsonl.gz").write_bytes(content)

    with pytest.raises(DataError, match=r"bad\.jsonl\.gz: not a lhotse manifest"):
        load_cuts([tmp_path / "bad.jsonl.gz"])


def test_a_manifest_of_something_else_has_no_cuts(tmp_path):
    recording = Recording(id="a", sources=[], sampling_rate=16_000, num_samples=16_000, duration=1.0)
    RecordingSet.from_recordings([recording]).to_file(tmp_path / "recordings.jsonl.gz")

    with pytest.raises(DataError, match=r"recordings\.jsonl\.gz: "):
        load_cuts([tmp_path / "recordings.jsonl.gz"])


def test_an_empty_manifest_has_no_cuts(tmp_path):
    (tmp_path / "empty.jsonl.gz").write_bytes(gzip.compress(b""))

    with pytest.raises(DataError, match=r"empty\.jsonl\.gz: there are no cuts in it"):
        load_cuts([tmp_path / "empty.jsonl.gz"])


def batches(cuts, *, max_seconds=25.0, num_buckets=4, seed=0, epoch=0, shuffle=True):
    found = bucketed_batches(
        cuts, max_seconds=max_seconds, num_buckets=num_buckets, seed=seed, epoch=epoch, shuffle=shuffle
    )
    return [[cut.id for cut in batch] for batch in found]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("max_seconds", "num_buckets"), [(25.0, 4), (10.0, 10), (1000.0, 1)])
def test_every_cut_comes_once_a_pass(many_cuts, max_seconds, num_buckets, shuffle):
    found = batches(many_cuts, max_seconds=max_seconds, num_buckets=num_buckets, shuffle=shuffle)

    assert sorted(name for batch in found for name in batch) == sorted(f"cut-{i}" for i in range(60))


@pytest.mark.parametrize("max_seconds", [10.0, 25.0, 60.0])
def test_a_batch_holds_the_audio_asked_for_and_at_most_one_cut_more(many_cuts, max_seconds):
    seconds = {cut.id: cut.duration for cut in many_cuts}

    sums = [
        (sum(map(seconds.get, batch)), max(map(seconds.get, batch)))
        for batch in batches(many_cuts, max_seconds=max_seconds)
    ]

    assert all(together - longest <= max_seconds for together, longest in sums)
    assert np.mean([together for together, _ in sums]) <= max_seconds


def test_cuts_of_like_length_come_together(many_cuts):
    seconds = {cut.id: cut.duration for cut in many_cuts}

    spreads = [max(map(seconds.get, b)) - min(map(seconds.get, b)) for b in batches(many_cuts) if len(b) > 1]

    assert np.mean(spreads) < 2.5  # of nine seconds


def test_seed_and_pass_fix_the_order(many_cuts):
    first = batches(many_cuts, seed=3, epoch=2)

    assert batches(many_cuts, seed=3, epoch=2) == first
    assert batches(many_cuts, seed=3, epoch=1) != first
    assert batches(many_cuts, seed=4, epoch=2) != first


def test_fewer_cuts_than_buckets_are_batches_too(tmp_path):
    cuts = load_cuts([make_cuts(tmp_path, "few", 3)])

    assert sorted(name for batch in batches(cuts, num_buckets=10) for name in batch) == ["few-0", "few-1", "few-2"]


def test_cuts_of_one_length_are_batches_too(tmp_path):
    cuts = [MonoCut(id=f"cut-{i}", start=0, duration=2.0, channel=0) for i in range(7)]
    CutSet.from_cuts(cuts).to_file(tmp_path / "cuts.jsonl")

    found = batches(load_cuts([tmp_path / "cuts.jsonl"]), max_seconds=6.0)

    assert sorted(map(len, found)) == [1, 3, 3]


def test_a_cut_is_loaded_with_its_words_and_their_borders(tmp_path):
    utterance = load_utterance(make_cut(tmp_path, "made-0", ["go", "left"]), TOKENIZER)

    assert (utterance.id, utterance.text) == ("made-0", "Go left")
    assert utterance.token_ids == [6, 5]
    assert utterance.token_ends_s == pytest.approx([0.5, 0.8])
    assert utterance.samples.shape == (16_000,)
    assert utterance.samples.dtype == np.float32


def test_a_cut_without_alignment_has_no_borders(tmp_path):
    assert load_utterance(make_cut(tmp_path, "made-0", ["go"], aligned=False), TOKENIZER).token_ends_s is None


def test_audio_of_another_rate_is_brought_to_16_khz(tmp_path):
    write_samples(tmp_path / "low.wav", np.zeros(8_000, np.float32), 8_000)
    cut = Recording.from_file(tmp_path / "low.wav").to_cut()
    cut.supervisions = make_cut(tmp_path, "made-0", ["go"]).supervisions

    assert load_utterance(cut, TOKENIZER).samples.shape == (16_000,)


def test_audio_that_cannot_be_decoded_is_named_by_its_cut(tmp_path):
    cut = make_cut(tmp_path, "made-0", ["go"])
    (tmp_path / "made-0.wav").write_bytes(b"not audio")

    with pytest.raises(DataError, match=r"cut made-0: its audio cannot be decoded"):
        load_utterance(cut, TOKENIZER)


@pytest.mark.parametrize("num_supervisions", [0, 2])
def test_a_cut_has_one_supervision(tmp_path, num_supervisions):
    cut = make_cut(tmp_path, "made-0", ["go"])
    cut.supervisions = cut.supervisions * num_supervisions

    with pytest.raises(DataError, match=rf"cut made-0: wanted one supervision, got {num_supervisions}"):
        load_utterance(cut, TOKENIZER)


def ids(*texts):
    found = {TOKENIZER.piece_text(i): i for i in range(TOKENIZER.vocab_size)}
    return [found[text] for text in texts]


@pytest.mark.parametrize(
    ("tokens", "ends"),
    [
        ([" go", " left"], [0.4, 1.2]),  # the same tokens
        ([" go", " le", "ft"], [0.4, 0.8, 1.2]),  # half of the letters of "left"
        ([" g", "o", " left"], [0.2, 0.4, 1.2]),
    ],
)
def test_borders_inside_an_aligned_token_are_placed_by_its_letters(tokens, ends):
    assert token_ends([(" go", 0.4), (" left", 1.2)], ids(*tokens), TOKENIZER, "a") == pytest.approx(ends)


def test_borders_of_smaller_tokens_join_to_those_of_larger_ones():
    aligned = [(" g", 0.1), ("o", 0.4), (" le", 0.6), ("ft", 1.2)]

    assert token_ends(aligned, ids(" go", " left"), TOKENIZER, "a") == pytest.approx([0.4, 1.2])


def test_a_space_that_is_a_token_moves_no_border_of_another():
    aligned = [(" go", 0.4), (" ", 0.6), ("left", 1.2)]

    assert token_ends(aligned, ids(" go", " left"), TOKENIZER, "a") == pytest.approx([0.4, 1.2])
    assert token_ends(aligned, ids(" go", " ", "left"), TOKENIZER, "a") == [0.4, 0.6, 1.2]


def test_borders_of_another_transcript_are_refused():
    with pytest.raises(DataError, match=r"cut a: its borders belong to another transcript; run `cifasr align` again"):
        token_ends([(" go", 0.4)], ids(" left"), TOKENIZER, "a")


def test_no_tokens_have_no_borders():
    assert token_ends([], [], TOKENIZER, "a") == []


@pytest.mark.parametrize(
    ("text", "want"),
    [("IT'S ME AND I", "It's me and I"), ("Mr. Quilter, you see", "Mr. Quilter, you see"), ("", "")],
)
def test_only_capitals_are_put_into_sentence_case(text, want):
    assert written_style(text) == want


def test_utterances_are_padded_with_silence():
    short, long = torch.rand(1_000).numpy() - 0.5, torch.rand(3_250).numpy() - 0.5

    batch = collate([Utterance("a", short, "", [5], [0.05]), Utterance("b", long, "", [6, 7], [0.1, 0.2])])

    assert batch.feats.shape == (2, 20, 80)
    assert batch.feat_lens.tolist() == [6, 20]
    assert (batch.feats[0, 6:] == SILENCE_FEATURE).all()
    assert torch.equal(batch.feats[0, :6], log_mel(torch.from_numpy(short)))
    assert batch.targets.tolist() == [[5, 0], [6, 7]]
    assert batch.target_lens.tolist() == [1, 2]
    assert batch.token_ends_s.tolist() == [[0.05, 0.0], [0.1, 0.2]]
    assert batch.num_audio_seconds == pytest.approx(4_250 / 16_000)


def test_a_batch_has_borders_only_where_all_its_utterances_have():
    samples = np.zeros(1_600, np.float32)

    batch = collate([Utterance("a", samples, "", [5], [0.05]), Utterance("b", samples, "", [6], None)])

    assert batch.token_ends_s is None


def test_an_utterance_may_have_no_tokens():
    batch = collate([Utterance("a", np.zeros(1_600, np.float32), "", [], [])])

    assert batch.targets.shape == (1, 0)
    assert batch.target_lens.tolist() == [0]
