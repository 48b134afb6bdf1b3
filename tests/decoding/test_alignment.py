from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifasr.decoding.alignment import attention_borders, ctc_borders, monotone_path
from cifasr.errors import ConfigError
from cifasr.nn.context import Context


@torch.no_grad()
def heard(model, feats, feat_lens):
    return model.encoder(feats, feat_lens, Context())


def score_of(score, ends):
    starts = [0, *ends[:-1]]
    return sum(score[u, start:end].sum().item() for u, (start, end) in enumerate(zip(starts, ends, strict=True)))


def test_each_frame_goes_to_the_token_it_likes_best():
    score = torch.tensor([[9.0, 9.0, 0.0, 0.0, 0.0], [0.0, 0.0, 9.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0, 9.0]])

    assert monotone_path(score) == [2, 3, 5]


def test_a_token_that_no_frame_likes_still_gets_one():
    score = torch.tensor([[9.0, 9.0, 9.0], [0.0, 0.0, 0.0]])

    assert monotone_path(score) == [2, 3]


def test_one_token_gets_everything_and_as_many_tokens_as_frames_one_each():
    assert monotone_path(torch.randn(1, 4)) == [4]
    assert monotone_path(torch.randn(3, 3)) == [1, 2, 3]
    assert monotone_path(torch.randn(1, 1)) == [1]


@settings(max_examples=40)
@given(seed=st.integers(0, 9999), U=st.integers(1, 4), more=st.integers(0, 5))
def test_no_other_way_to_share_the_frames_scores_higher(seed, U, more):
    T = U + more
    score = torch.randn(U, T, generator=torch.Generator().manual_seed(seed))

    ends = monotone_path(score)

    best = max(score_of(score, [*inner, T]) for inner in combinations(range(1, T), U - 1))
    assert ends[-1] == T
    assert all(later > earlier for earlier, later in pairwise([0, *ends]))
    assert score_of(score, ends) == pytest.approx(best, abs=1e-4)


def sharp(paths, vocab_size):
    """Log-probabilities of CTC paths that leave no doubt, (B, T, V)."""
    rows = torch.full((len(paths), len(paths[0]), vocab_size), -20.0)
    for row, path in zip(rows, paths, strict=True):
        row[torch.arange(len(path)), torch.tensor(path)] = 0.0
    return rows.log_softmax(-1)


def test_ctc_borders_are_the_ends_of_the_runs(tiny_model, monkeypatch):
    model, nothing, a, b = tiny_model("conformer", ctc=True), 2, 5, 6
    paths = [[nothing, a, a, nothing, b, b, nothing, b], [b, a, a, a, nothing, nothing, nothing, nothing]]
    monkeypatch.setattr(model, "ctc_log_probs", lambda _: sharp(paths, model.tokenizer.vocab_size))
    feats, feat_lens = torch.randn(2, 64, 80), torch.tensor([64, 40])
    targets, target_lens = torch.tensor([[a, b, b], [b, a, 0]]), torch.tensor([3, 2])

    borders = ctc_borders(model, *heard(model, feats, feat_lens), targets, target_lens)

    assert borders == [pytest.approx([0.24, 0.48, 0.64]), pytest.approx([0.08, 0.32])]


def test_more_tokens_than_frames_share_them_evenly(tiny_model):
    model = tiny_model("conformer", ctc=True)
    targets = torch.tensor([[5, 5, 5, 5], [4, 5, 6, 7]])
    encoder_out = heard(model, torch.randn(2, 32, 80), torch.tensor([32, 16]))

    borders = ctc_borders(model, *encoder_out, targets, torch.tensor([4, 4]))

    # Four equal tokens want three blanks between them; the second has two frames for four tokens.
    assert borders == [pytest.approx([0.08, 0.16, 0.24, 0.32]), pytest.approx([0.0, 0.08, 0.08, 0.16])]


def test_no_tokens_have_no_borders(tiny_model):
    model = tiny_model("whisper", ctc=True, alignment_heads=((0, 0),))
    encoder_out = heard(model, torch.randn(1, 32, 80), torch.tensor([32]))
    utterance = (*encoder_out, torch.zeros(1, 0, dtype=torch.int64), torch.tensor([0]))

    assert ctc_borders(model, *utterance) == [[]]
    assert attention_borders(model, *utterance) == [[]]


def test_ctc_borders_want_a_ctc_branch(tiny_model):
    with pytest.raises(ConfigError, match="ctc: wanted true"):
        ctc_borders(tiny_model(), torch.randn(1, 4, 16), torch.tensor([4]), torch.tensor([[5]]), torch.tensor([1]))


def test_attention_borders_want_alignment_heads(tiny_model):
    with pytest.raises(ConfigError, match="alignment_heads: wanted at least one"):
        attention_borders(
            tiny_model(), torch.randn(1, 16, 16), torch.tensor([16]), torch.tensor([[5]]), torch.tensor([1])
        )


def test_attention_borders_are_where_the_heads_stop_looking(tiny_model, monkeypatch):
    model = tiny_model("whisper", alignment_heads=((0, 1), (1, 0)))
    weights = torch.full((1, 2, 4, 24), 1e-3)  # the prompt's two places, then two tokens
    for place, first in ((1, 0), (2, 8), (3, 16)):  # place 1 looks for the first token, the last for "nothing"
        weights[0, :, place, first : first + 8] = 0.1
    asked = []

    def attention_weights(tokens, encoder_out, lens, heads):
        asked.append((tokens.tolist(), heads))
        return weights

    monkeypatch.setattr(model.decoder, "attention_weights", attention_weights)

    borders = attention_borders(
        model, torch.randn(1, 24, 16), torch.tensor([24]), torch.tensor([[5, 6]]), torch.tensor([2])
    )

    assert asked == [([[1, 3, 5, 6]], [[1], [0]])]
    assert borders == [pytest.approx([0.16, 0.32])]


def test_attention_borders_of_a_padded_row_are_those_of_the_row_alone(tiny_model):
    model = tiny_model("whisper", alignment_heads=((0, 1), (1, 0)))
    feats, feat_lens = torch.randn(2, 90, 80), torch.tensor([90, 50])
    targets, target_lens = torch.tensor([[5, 6, 7, 8], [9, 10, 0, 0]]), torch.tensor([4, 2])

    both = attention_borders(model, *heard(model, feats, feat_lens), targets, target_lens)

    alone = attention_borders(model, *heard(model, feats[1:, :50], feat_lens[1:]), targets[1:, :2], target_lens[1:])
    assert both[1] == alone[0]
    assert [len(row) for row in both] == [4, 2]
    assert all(earlier < later for row in both for earlier, later in pairwise([0.0, *row]))
    assert both[0][-1] < 0.9
    assert both[1][-1] < 0.5


def test_attention_borders_with_more_tokens_than_frames_share_them_evenly(tiny_model):
    model = tiny_model("whisper", alignment_heads=((0, 0),))

    borders = attention_borders(
        model, torch.randn(1, 2, 16), torch.tensor([2]), torch.tensor([[5, 6, 7, 8]]), torch.tensor([4])
    )

    assert borders == [pytest.approx([0.0, 0.02, 0.02, 0.04])]
