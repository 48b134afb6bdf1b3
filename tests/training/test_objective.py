import pytest
import torch

from cifasr.training.objective import border_weights


def test_each_token_has_one_unit_of_weight_spread_over_its_frames():
    ends = torch.tensor([[2, 6, 7], [4, 4, 0]])

    weight = border_weights(ends, torch.tensor([3, 2]), 8)

    # The second token of the second row ends in the frame in which the first does, and shares it.
    assert weight.tolist() == [
        [0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 1.0, 0.0],
        [0.25, 0.25, 0.25, 1.25, 0.0, 0.0, 0.0, 0.0],
    ]


@pytest.mark.parametrize("end", [0, 9])
def test_borders_outside_the_frames_are_drawn_in(end):
    weight = border_weights(torch.tensor([[end]]), torch.tensor([1]), 4)

    assert float(weight.sum()) == pytest.approx(1.0)
