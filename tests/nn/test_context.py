import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifasr.nn.context import Context, attention_mask


def seen(lens, num_frames, context):
    """For the first row: which keys each query sees."""
    mask = attention_mask(torch.tensor(lens), num_frames, context)
    return [row.nonzero().flatten().tolist() for row in mask[0, 0]]


def test_without_a_chunk_every_valid_frame_is_seen():
    assert seen([3], 3, Context()) == [[0, 1, 2]] * 3


def test_a_frame_sees_its_own_chunk_and_all_before_it():
    assert seen([5], 5, Context(chunk_frames=2)) == [[0, 1], [0, 1], [0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3, 4]]


def test_the_past_is_counted_from_the_start_of_the_chunk():
    want = [[0, 1], [0, 1], [1, 2, 3], [1, 2, 3], [3, 4, 5], [3, 4, 5]]

    assert seen([6], 6, Context(chunk_frames=2, left_frames=1)) == want


def test_without_a_past_only_the_chunk_is_seen():
    assert seen([4], 4, Context(chunk_frames=2, left_frames=0)) == [[0, 1], [0, 1], [2, 3], [2, 3]]


def test_padding_is_seen_by_nobody_but_itself():
    assert seen([2], 4, Context()) == [[0, 1], [0, 1], [0, 1, 2], [0, 1, 3]]
    assert seen([1], 4, Context(chunk_frames=2, left_frames=0)) == [[0], [0, 1], [2], [3]]


def test_each_row_has_a_length_of_its_own():
    mask = attention_mask(torch.tensor([1, 2]), 2, Context())

    assert mask.shape == (2, 1, 2, 2)
    assert mask[:, 0].tolist() == [[[True, False], [True, True]], [[True, True], [True, True]]]


@settings(max_examples=50)
@given(
    lens=st.lists(st.integers(0, 12), min_size=1, max_size=3),
    chunk_frames=st.none() | st.integers(1, 13),
    left_frames=st.none() | st.integers(0, 13),
)
def test_no_row_is_ever_empty(lens, chunk_frames, left_frames):
    mask = attention_mask(torch.tensor(lens), 12, Context(chunk_frames, left_frames))

    assert mask.any(-1).all()


@pytest.mark.parametrize(("field", "value", "least"), [("chunk_frames", 0, 1), ("left_frames", -1, 0)])
def test_sizes_that_cannot_be_are_refused(field, value, least):
    with pytest.raises(ValueError, match=f"{field}: wanted at least {least} or None, got {value}"):
        Context(**{field: value})
