import math

import pytest
import torch

from cifasr.losses import (
    IGNORE,
    border_loss,
    ctc_loss,
    frame_cross_entropy,
    frame_distance,
    quantity_loss,
    silence_loss,
    soft_cross_entropy,
    token_cross_entropy,
)


def smooth_l1(error):
    return 0.5 * error**2 if abs(error) < 1 else abs(error) - 0.5


def test_cross_entropy_is_minus_the_log_of_the_answers_share():
    logits = torch.tensor([[[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]]).log()

    total, count = token_cross_entropy(logits, torch.tensor([[0, 1]]), label_smoothing=0.0)

    assert float(total) == pytest.approx(-math.log(0.5) - math.log(0.8))
    assert int(count) == 2


def test_label_smoothing_spreads_its_share_over_all_tokens():
    logits = torch.tensor([[[0.5, 0.25, 0.25]]]).log()

    total, _ = token_cross_entropy(logits, torch.tensor([[0]]), label_smoothing=0.3)

    assert float(total) == pytest.approx(-(0.7 + 0.1) * math.log(0.5) - 0.2 * math.log(0.25))


def test_a_place_that_is_not_asked_counts_for_nothing():
    logits = torch.randn(1, 3, 4, requires_grad=True)

    total, count = token_cross_entropy(logits, torch.tensor([[2, IGNORE, 1]]), label_smoothing=0.1)
    total.backward()

    assert int(count) == 2
    assert logits.grad[0, 1].tolist() == [0.0] * 4
    assert (logits.grad[0, [0, 2]] != 0).all()


def test_nothing_asked_is_no_loss():
    total, count = token_cross_entropy(torch.randn(1, 2, 4), torch.full((1, 2), IGNORE), label_smoothing=0.1)

    assert (float(total), int(count)) == (0.0, 0)


def test_the_border_loss_is_zero_where_each_token_has_a_weight_of_one():
    alpha = torch.tensor([[0.5, 0.5, 0.25, 0.75, 1.0, 0.0]])

    total, count = border_loss(alpha, torch.tensor([6]), torch.tensor([[2, 4, 5]]), torch.tensor([3]))

    assert (float(total), int(count)) == (0.0, 1)


def test_the_border_loss_adds_the_means_over_spans_and_the_whole():
    alpha = torch.tensor([[0.5, 0.5, 0.5, 0.5, 1.0, 0.5]])  # 1 and 2 between the borders, 0.5 after

    total, _ = border_loss(alpha, torch.tensor([6]), torch.tensor([[2, 5]]), torch.tensor([2]))

    singles, pair, whole = (smooth_l1(0) + smooth_l1(1)) / 2, smooth_l1(1 / 2**0.5), smooth_l1(1.5 / 2**0.5)
    assert float(total) == pytest.approx(singles + pair + whole)


def test_a_border_past_the_end_is_the_end():
    alpha = torch.tensor([[0.5, 0.5, 0.5, 0.5]])

    total, _ = border_loss(alpha, torch.tensor([4]), torch.tensor([[2, 9]]), torch.tensor([2]))

    assert float(total) == 0.0


def test_the_quantity_loss_is_the_error_over_the_root_of_the_count():
    alpha = torch.tensor([[1.0, 1.0, 1.0, 0.0], [3.0, 3.0, 2.0, 2.0]])

    total, count = quantity_loss(alpha, torch.tensor([4, 4]), torch.tensor([4, 4]))

    assert float(total) == pytest.approx(smooth_l1(-1 / 2) + smooth_l1(6 / 2))
    assert int(count) == 2


def test_the_silence_loss_is_the_weight_outside_the_speech():
    alpha = torch.tensor([[0.5, 1.0, 1.0, 0.25, 9.0], [0.5, 1.0, 1.0, 0.25, 0.125]])

    total, count = silence_loss(alpha, torch.tensor([4, 5]), torch.tensor([1, 0]), torch.tensor([3, 4]))

    assert (float(total), int(count)) == (0.5 + 0.25 + 0.125, 2)


@pytest.mark.parametrize("target_len", [0, 1])
def test_an_utterance_without_tokens_is_held_to_no_weight(target_len):
    total, _ = quantity_loss(torch.tensor([[0.25, 0.25]]), torch.tensor([2]), torch.tensor([target_len]))

    assert float(total) == smooth_l1(0.5)


def made_batch():
    lens, target_lens = torch.tensor([8, 5, 7, 3]), torch.tensor([3, 2, 4, 1])
    ends = torch.tensor([[2, 5, 8, 0], [1, 4, 0, 0], [1, 3, 5, 6], [3, 0, 0, 0]])
    return torch.rand(4, 8), lens, ends, target_lens


def alpha_losses(alpha, lens, ends, target_lens):
    return [
        border_loss(alpha, lens, ends, target_lens),
        silence_loss(alpha, lens, ends[:, 0] - 1, ends.amax(1) - 1),
        quantity_loss(alpha, lens, target_lens),
    ]


def test_halves_of_a_batch_have_the_sum_and_the_count_of_the_whole():
    alpha, lens, ends, target_lens = made_batch()
    logits, answers = torch.randn(4, 6, 5), torch.randint(0, 5, (4, 6))
    answers[1, 3:] = IGNORE
    log_probs, targets = torch.randn(4, 8, 5).log_softmax(-1), torch.randint(1, 5, (4, 4))

    def losses(rows):
        ctc = ctc_loss(log_probs[rows], lens[rows], targets[rows], target_lens[rows], 0)
        entropy = token_cross_entropy(logits[rows], answers[rows], 0.1)
        return [*alpha_losses(alpha[rows], lens[rows], ends[rows], target_lens[rows]), ctc, entropy]

    for whole, first, second in zip(losses(slice(4)), losses(slice(2)), losses(slice(2, 4)), strict=True):
        assert float(first[0] + second[0]) == pytest.approx(float(whole[0]), rel=1e-5)
        assert int(first[1] + second[1]) == int(whole[1])


@pytest.mark.parametrize("garbage", [1e9, -3.0, math.nan, math.inf])
def test_weights_past_the_end_change_no_loss_and_no_gradient(garbage):
    alpha, lens, ends, target_lens = made_batch()
    padding = torch.arange(8) >= lens[:, None]
    dirty = alpha.masked_fill(padding, garbage).requires_grad_()
    clean = alpha.masked_fill(padding, 0.0).requires_grad_()

    got = sum(total for total, _ in alpha_losses(dirty, lens, ends, target_lens))
    want = sum(total for total, _ in alpha_losses(clean, lens, ends, target_lens))
    got.backward()
    want.backward()

    assert got.item() == want.item()
    assert torch.equal(dirty.grad, clean.grad)
    assert (dirty.grad[padding] == 0).all()


def test_ctc_is_minus_the_log_of_all_ways_to_write_the_tokens():
    probs = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]])  # of the blank and of token 1

    total, count = ctc_loss(probs.log(), torch.tensor([2]), torch.tensor([[1]]), torch.tensor([1]), blank_id=0)

    assert float(total) == pytest.approx(-math.log(0.5 * 0.75 + 0.5 * 0.75 + 0.5 * 0.25))
    assert int(count) == 1


def test_ctc_of_more_tokens_than_frames_counts_for_nothing():
    log_probs = torch.randn(3, 3, 4).log_softmax(-1).requires_grad_()
    targets = torch.tensor([[1, 2, 3, 1], [1, 1, 2, 0], [1, 2, 0, 0]])  # 4 tokens; 3 and a blank; 2: in 3 frames

    total, count = ctc_loss(log_probs, torch.tensor([3, 3, 3]), targets, torch.tensor([4, 3, 2]), blank_id=0)
    total.backward()
    alone, _ = ctc_loss(log_probs[2:], torch.tensor([3]), targets[2:], torch.tensor([2]), blank_id=0)

    assert total.item() == pytest.approx(alone.item())
    assert int(count) == 2
    assert (log_probs.grad[:2] == 0).all()
    assert log_probs.grad[2].abs().sum() > 0


def test_ctc_reads_nothing_past_the_lengths():
    log_probs = torch.randn(1, 5, 4).log_softmax(-1)
    dirty = log_probs.clone()
    dirty[:, 3:] = math.nan
    targets = torch.tensor([[1, 2, 2, 2]])

    got = ctc_loss(dirty, torch.tensor([3]), targets, torch.tensor([2]), blank_id=0)
    want = ctc_loss(log_probs[:, :3], torch.tensor([3]), targets[:, :2], torch.tensor([2]), blank_id=0)

    assert float(got[0]) == float(want[0])
    assert int(got[1]) == int(want[1]) == 2


def test_soft_cross_entropy_is_the_divergence_from_the_teacher_where_asked():
    pupil = torch.tensor([[[0.5, 0.5], [0.9, 0.1], [0.5, 0.5]]]).log()
    teacher = torch.tensor([[[0.8, 0.2], [0.9, 0.1], [0.1, 0.9]]]).log() + 3.0  # logits are known up to a constant

    total, count = soft_cross_entropy(pupil, teacher, torch.tensor([[True, True, False]]))

    assert float(total) == pytest.approx(0.8 * math.log(1.6) + 0.2 * math.log(0.4))
    assert int(count) == 2


def test_frames_are_as_far_as_the_teachers_variance_where_the_pupil_knows_only_its_mean():
    teacher = torch.randn(2, 5, 3) * 4 + 1
    lens = torch.tensor([5, 2])
    valid = torch.cat([teacher[0], teacher[1, :2]])
    teacher[1, 2:] = torch.nan

    total, count = frame_distance(valid.mean(0).expand(2, 5, 3), teacher, lens)

    assert int(count) == 7
    assert float(total) == pytest.approx(7.0, rel=1e-5)
    assert float(frame_distance(teacher, teacher, lens)[0]) == 0.0


def test_each_frame_is_asked_for_the_token_spoken_in_it_and_for_nothing_outside_the_speech():
    nothing, V = 2, 8
    spoken = [[nothing, 5, 5, 6, 7, 7, nothing, nothing], [4, 4, nothing, nothing, nothing, nothing, 0, 0]]
    log_probs = torch.full((2, 8, V), -5.0)
    for row, tokens in enumerate(spoken):
        log_probs[row, torch.arange(8), torch.tensor(tokens)] = -0.5
    log_probs[1, 6:] = torch.nan
    targets, ends = torch.tensor([[5, 6, 7], [4, 0, 0]]), torch.tensor([[3, 4, 6], [2, 0, 0]])

    total, count = frame_cross_entropy(
        log_probs, torch.tensor([8, 6]), targets, torch.tensor([3, 1]), ends, torch.tensor([1, 0]), nothing
    )

    assert int(count) == 14
    assert float(total) == pytest.approx(14 * 0.5)


def test_two_tokens_that_end_in_one_frame_leave_none_to_the_second():
    log_probs = torch.zeros(1, 3, 8)
    log_probs[0, [0, 1, 2], [5, 5, 2]] = 1.0
    ends = torch.tensor([[2, 2]])

    total, _ = frame_cross_entropy(
        log_probs, torch.tensor([3]), torch.tensor([[5, 6]]), torch.tensor([2]), ends, torch.tensor([0]), 2
    )

    assert float(total) == pytest.approx(-3.0)
