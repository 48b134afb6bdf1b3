import pytest
import torch

from cifasr.nn.decoder import Decoder


def make_decoder(*, window=True, fired_embedding=True):
    decoder = Decoder(
        30,
        num_layers=2,
        d_model=16,
        num_heads=2,
        d_ff=32,
        d_encoder=12,
        max_tokens=40,
        window=window,
        fired_embedding=fired_embedding,
    ).eval()
    torch.nn.init.normal_(decoder.positions)
    if decoder.fired_projection is not None:
        torch.nn.init.normal_(decoder.fired_projection.weight)
    return decoder


@pytest.mark.parametrize("pieces", [[1] * 9, [2, 1, 3, 3], [9]])
@pytest.mark.parametrize("fired_embedding", [True, False])
@pytest.mark.parametrize("window", [True, False])
@torch.no_grad()
def test_token_by_token_scores_what_the_whole_does(window, fired_embedding, pieces):
    decoder = make_decoder(window=window, fired_embedding=fired_embedding)
    tokens, frames, fired = torch.randint(30, (1, 9)), torch.randn(1, 20, 12), torch.randn(1, 9, 12)
    ends = torch.cumsum(torch.tensor([pieces]), 1).repeat_interleave(torch.tensor(pieces), dim=1) + 8
    starts = ends - 6
    whole = decoder(tokens, frames, starts, ends, fired)

    state, last, first = decoder.init_state(), [], 0
    for count in pieces:
        part = slice(first, first + count)
        memory = decoder.project_memory(frames[:, starts[0, first] : ends[0, first]])
        logits, state = decoder.step(tokens[:, part], state, memory, fired[:, part])
        last.append(logits)
        first += count

    at = torch.cumsum(torch.tensor(pieces), 0) - 1
    torch.testing.assert_close(torch.cat(last), whole[0, at], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_step_leaves_the_state_it_was_given_as_it_was():
    decoder = make_decoder()
    memory = decoder.project_memory(torch.randn(1, 5, 12))
    _, state = decoder.step(torch.tensor([[1, 3]]), decoder.init_state(), memory)
    before = {name: value.clone() for name, value in state.items()}

    decoder.step(torch.tensor([[7]]), state, memory)

    assert {name: value.tolist() for name, value in state.items()} == {n: v.tolist() for n, v in before.items()}


@torch.no_grad()
def test_frames_outside_the_window_change_nothing():
    decoder = make_decoder()
    tokens, frames = torch.randint(30, (1, 3)), torch.randn(1, 20, 12)
    starts, ends = torch.tensor([[4, 4, 4]]), torch.tensor([[9, 9, 9]])
    outside, inside = frames.clone(), frames.clone()
    outside[:, :4] += 100.0
    outside[:, 9:] += 100.0
    inside[:, 8] += 1.0

    logits = decoder(tokens, frames, starts, ends)

    torch.testing.assert_close(decoder(tokens, outside, starts, ends), logits, atol=1e-5, rtol=1e-5)
    assert (decoder(tokens, inside, starts, ends) - logits).abs().max() > 1e-3


@torch.no_grad()
def test_each_place_has_a_window_of_its_own():
    decoder = make_decoder()
    tokens, frames = torch.randint(30, (1, 2)), torch.randn(1, 10, 12)
    starts, ends = torch.tensor([[0, 5]]), torch.tensor([[5, 10]])
    changed = frames.clone()
    changed[:, 5:] += 1.0

    before, after = decoder(tokens, frames, starts, ends), decoder(tokens, changed, starts, ends)

    torch.testing.assert_close(after[:, 0], before[:, 0], atol=1e-6, rtol=1e-6)
    assert (after[:, 1] - before[:, 1]).abs().max() > 1e-3


@torch.no_grad()
def test_without_a_window_no_frame_is_seen():
    decoder = make_decoder(window=False)
    tokens, fired = torch.randint(30, (1, 4)), torch.randn(1, 4, 12)
    starts, ends = torch.zeros(1, 4, dtype=torch.int64), torch.full((1, 4), 6)

    one, other = (decoder(tokens, torch.randn(1, 6, 12), starts, ends, fired) for _ in range(2))

    assert one.tolist() == other.tolist()


@torch.no_grad()
def test_later_tokens_and_fired_embeddings_do_not_change_earlier_scores():
    decoder = make_decoder()
    tokens, frames, fired = torch.randint(1, 30, (1, 6)), torch.randn(1, 8, 12), torch.randn(1, 6, 12)
    starts, ends = torch.zeros(1, 6, dtype=torch.int64), torch.full((1, 6), 8)
    other_tokens, other_fired = tokens.clone(), fired.clone()
    other_tokens[:, 4:], other_fired[:, 4:] = 0, 5.0

    before = decoder(tokens, frames, starts, ends, fired)
    after = decoder(other_tokens, frames, starts, ends, other_fired)

    torch.testing.assert_close(after[:, :4], before[:, :4], atol=1e-6, rtol=1e-6)
    assert (after[:, 4:] - before[:, 4:]).abs().amax(-1).min() > 1e-3


@torch.no_grad()
def test_beside_a_window_the_fired_embedding_says_nothing_before_training():
    decoder = Decoder(
        30,
        num_layers=1,
        d_model=16,
        num_heads=2,
        d_ff=32,
        d_encoder=12,
        max_tokens=8,
        window=True,
        fired_embedding=True,
    )
    tokens, frames = torch.randint(30, (1, 3)), torch.randn(1, 5, 12)
    starts, ends = torch.zeros(1, 3, dtype=torch.int64), torch.full((1, 3), 5)

    with_fired = decoder(tokens, frames, starts, ends, torch.randn(1, 3, 12))

    assert with_fired.tolist() == decoder(tokens, frames, starts, ends).tolist()


@torch.no_grad()
def test_attention_weights_are_distributions_over_the_valid_frames():
    decoder = make_decoder()
    tokens, frames, lens = torch.randint(30, (2, 4)), torch.randn(2, 9, 12), torch.tensor([9, 5])

    weights = decoder.attention_weights(tokens, frames, lens, [[1], [0, 1]])

    assert weights.shape == (2, 3, 4, 9)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 4))
    assert weights[1, :, :, 5:].sum() == 0


@torch.no_grad()
def test_attention_weights_of_a_padded_row_are_those_of_the_row_alone():
    decoder = make_decoder()
    tokens, frames, lens = torch.randint(30, (2, 4)), torch.randn(2, 9, 12), torch.tensor([9, 5])

    both = decoder.attention_weights(tokens, frames, lens, [[1], [0]])

    alone = decoder.attention_weights(tokens[1:], frames[1:, :5], lens[1:], [[1], [0]])
    torch.testing.assert_close(both[1:, :, :, :5], alone, atol=1e-6, rtol=1e-6)
