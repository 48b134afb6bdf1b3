"""Bytes counted by hand, and counted by the interpreter."""

import pytest
import torch

from cifasr.ops.problems import Problem, Size, cif_problem
from cifasr.ops.traffic import TORCH, Moved, Traffic, count_both_ways, counting, tensor_bytes

pytest.importorskip("triton")
pytestmark = pytest.mark.skipif(
    torch.cuda.is_available(), reason="on a machine with a GPU Triton compiles, here it counts"
)


def test_each_lane_that_its_mask_lets_through_counts_and_no_other():
    from cifasr.ops.cif import kernel  # triton is optional

    alpha, frame_lens = torch.full((2, 6), 0.5), torch.tensor([6, 4])
    programs = []

    with counting(lambda *program: programs.append(program)) as moved:
        position, token_lens, _ = kernel.positions(alpha, frame_lens, None, 1.0, 1 << 24, 9)
        fire_frames = kernel.fire_frames(position, frame_lens, token_lens, 3)
        kernel.sum_tokens(torch.ones(2, 6, 5), position, fire_frames, token_lens, 1.0)

    # Valid weights are float32, lengths, positions, counts and remainders 8 bytes each.
    assert moved["_position_kernel"] == Moved(read=(6 + 4) * 4 + 2 * 8, written=2 * 6 * 8 + 2 * 8 + 2 * 8)
    # One program a row: 3 and 2 tokens, (first, end) frames 0 to 5 and 0 to 3; each frame once with its two positions,
    # of which the first frame has one; a count, the last firing, and three embeddings and delays.
    frames, positions = 6 + 4, 2 * (6 + 4) - 2
    assert moved["_token_kernel"] == Moved(
        read=frames * 5 * 4 + positions * 8 + 2 * (8 + 8), written=2 * 3 * 5 * 4 + 2 * 3 * 8
    )
    assert programs[0] == ("_position_kernel", 1, 2)
    assert programs[-1] == ("_token_kernel", 2, 2)


def test_of_torch_s_operations_inputs_and_outputs_count_and_views_do_not():
    x = torch.zeros(10)

    with counting() as moved:
        (x[:5].view(5, 1) + 1).sum()

    assert moved == {TORCH: Moved(read=5 * 4 + 5 * 4, written=5 * 4 + 4)}


def test_least_is_every_input_read_once_and_every_output_written_once():
    a, b = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)

    forward, backward = count_both_ways(Problem([a, b], [a, b], lambda: (a * b,)))

    assert forward == Traffic({TORCH: Moved(32, 16)}, 48)
    assert forward.ratio == 1
    assert backward.compulsory == 32 + 16 + 32  # the inputs, the gradient that comes, the two that go


def test_neither_direction_moves_much_more_than_it_must():
    forward, backward = count_both_ways(cif_problem(Size(1, 60, 512, 0.15), torch.float32, scaled=True))

    assert 1 < forward.ratio < 1.15
    assert 1 < backward.ratio < 1.25


def test_a_tree_of_tensors_is_measured_whole():
    assert tensor_bytes([torch.zeros(3), {"x": torch.zeros(2, dtype=torch.int64)}, None, 4]) == 12 + 16
