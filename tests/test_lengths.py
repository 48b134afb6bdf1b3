import torch

from cifasr.lengths import padding_mask


def test_true_marks_what_lies_past_each_length():
    lens = torch.tensor([2, 0, 3])

    mask = padding_mask(lens, 3)

    assert mask.tolist() == [[False, False, True], [True, True, True], [False, False, False]]


def test_a_length_past_the_width_marks_nothing():
    lens = torch.tensor([5])

    mask = padding_mask(lens, 2)

    assert mask.tolist() == [[False, False]]


def test_no_rows_and_no_width_make_an_empty_mask():
    no_lens = torch.zeros(0, dtype=torch.int64)

    assert padding_mask(no_lens, 4).shape == (0, 4)
    assert padding_mask(torch.tensor([1]), 0).shape == (1, 0)
