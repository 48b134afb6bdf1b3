"""Numbers that anyone can recompute on paper."""

import pytest
import torch

from tests.ops.cif.backends import BACKENDS, cif

pytestmark = pytest.mark.parametrize("backend", BACKENDS)


def row(*values):
    return torch.tensor([values])


def column(*values):
    return torch.tensor(values)[None, :, None]


def test_a_frame_on_a_border_is_shared_between_two_tokens(backend):
    out = cif(column(1.0, 2.0, 4.0), row(3)[0], row(0.5, 0.75, 0.75), backend=backend)

    assert out.acoustic_embeds.flatten().tolist() == [0.5 * 1 + 0.5 * 2, 0.25 * 2 + 0.75 * 4]
    assert out.token_lens.tolist() == [2]
    assert out.fire_frames.tolist() == [[1, 2]]
    assert out.delays.tolist() == [[0.5 * 1 + 0.5 * 2, 0.25 * 2 + 0.75 * 3]]
    assert out.alpha_sum.tolist() == [2.0]
    assert out.remainder.tolist() == [0.0]


def test_the_gradient_has_its_closed_form(backend):
    frames, alpha = column(1.0, 2.0, 4.0).requires_grad_(), row(0.5, 0.75, 0.75).requires_grad_()

    embeds = cif(frames, row(3)[0], alpha, backend=backend).acoustic_embeds
    frame_grad, alpha_grad = torch.autograd.grad(embeds, [frames, alpha], column(1.0, 10.0))

    assert frame_grad.flatten().tolist() == [0.5 * 1, 0.5 * 1 + 0.25 * 10, 0.75 * 10]
    # d/dc = [1 * (1 - 2), 10 * (2 - 4), 0], summed from the right
    assert alpha_grad.flatten().tolist() == [-21.0, -20.0, 0.0]


def test_a_heavy_frame_fires_more_than_once(backend):
    out = cif(column(1.0, 3.0), row(2)[0], row(2.5, 0.5), backend=backend)

    assert out.acoustic_embeds.flatten().tolist() == [1.0, 1.0, 0.5 * 1 + 0.5 * 3]
    assert out.fire_frames.tolist() == [[0, 0, 1]]
    assert out.delays.tolist() == [[1.0, 1.0, 1.5]]


def test_scaling_makes_heavy_frames_and_fires_exactly_the_target(backend):
    alpha = row(0.4, 1.8, 1.2, 1.2, 1.4) / 7

    out = cif(column(1.0, 2.0, 3.0, 4.0, 5.0), row(5)[0], alpha, target_lens=row(6)[0], backend=backend)

    assert out.acoustic_embeds.flatten().tolist() == pytest.approx([1.6, 2.0, 2.8, 3.6, 4.4, 5.0], abs=1e-6)
    assert out.fire_frames.tolist() == [[1, 1, 2, 3, 4, 4]]
    assert out.alpha_sum.tolist() == pytest.approx([6 / 7])


@pytest.mark.parametrize(("tail_threshold", "embeds"), [(None, [1.25]), (0.8, [1.25]), (0.75, [1.25, 2.5])])
def test_a_remainder_of_the_tail_threshold_fires_with_the_weight_it_has(backend, tail_threshold, embeds):
    out = cif(
        column(1.0, 2.0, 4.0, 8.0),
        row(3)[0],
        row(0.75, 0.5, 0.5, 0.5),
        tail_threshold=tail_threshold,
        backend=backend,
    )

    assert out.acoustic_embeds.flatten().tolist() == embeds
    assert out.fire_frames[0].tolist() == [1, 2][: len(embeds)]
    assert out.delays[0].tolist() == pytest.approx([0.75 * 1 + 0.25 * 2, (0.25 * 2 + 0.5 * 3) / 0.75][: len(embeds)])
    assert out.remainder.tolist() == [0.75]


def test_the_threshold_is_the_weight_of_a_token(backend):
    out = cif(column(1.0, 2.0), row(2)[0], row(0.75, 0.25), threshold=0.5, backend=backend)

    assert out.acoustic_embeds.flatten().tolist() == [0.5 * 1, 0.25 * 1 + 0.25 * 2]


def test_ten_tenths_fire_once(backend):
    out = cif(torch.ones(1, 10, 1), row(10)[0], torch.full((1, 10), 0.1), backend=backend)

    assert out.token_lens.tolist() == [1]
    assert out.fire_frames.tolist() == [[9]]


def test_max_tokens_is_the_width_and_drops_what_lies_past_it(backend):
    frames, frame_lens, alpha = torch.ones(2, 4, 1), torch.tensor([4, 1]), torch.ones(2, 4)

    out = cif(frames, frame_lens, alpha, max_tokens=3, backend=backend)

    assert out.acoustic_embeds.squeeze(-1).tolist() == [[1, 1, 1], [1, 0, 0]]
    assert out.token_lens.tolist() == [3, 1]
    assert out.fire_frames.tolist() == [[0, 1, 2], [0, 0, 0]]
    assert out.delays.tolist() == [[1, 2, 3], [1, 0, 0]]


@pytest.mark.parametrize(("max_tokens", "width"), [(None, 0), (2, 2)])
@pytest.mark.parametrize("num_frames", [0, 3])
def test_silence_fires_nothing_and_has_zero_gradients(backend, max_tokens, width, num_frames):
    frames, alpha = torch.ones(1, num_frames, 2, requires_grad=True), torch.zeros(1, num_frames, requires_grad=True)

    out = cif(frames, row(num_frames)[0], alpha, max_tokens=max_tokens, tail_threshold=0.5, backend=backend)
    frame_grad, alpha_grad = torch.autograd.grad(out.acoustic_embeds.sum(), [frames, alpha])

    assert out.acoustic_embeds.tolist() == [[[0.0, 0.0]] * width]
    assert out.token_lens.tolist() == [0]
    assert frame_grad.eq(0).all()
    assert alpha_grad.eq(0).all()


def test_a_row_without_weight_is_spread_evenly_over_its_frames(backend):
    frames, alpha = column(1.0, 2.0, 3.0, 4.0, 99.0).requires_grad_(), torch.zeros(1, 5, requires_grad=True)

    out = cif(frames, row(4)[0], alpha, target_lens=row(2)[0], backend=backend)
    frame_grad, alpha_grad = torch.autograd.grad(out.acoustic_embeds.sum(), [frames, alpha])

    assert out.acoustic_embeds.flatten().tolist() == [0.5 * 1 + 0.5 * 2, 0.5 * 3 + 0.5 * 4]
    assert frame_grad.flatten().tolist() == [0.5, 0.5, 0.5, 0.5, 0.0]
    assert alpha_grad.eq(0).all()


def test_a_weight_past_the_clamp_counts_as_just_under_128_thresholds(backend):
    out = cif(torch.ones(1, 1, 1), row(1)[0], row(1000.0), backend=backend)

    assert out.token_lens.tolist() == [127]
    assert out.alpha_sum.tolist() == [1000.0]
