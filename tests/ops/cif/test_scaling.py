import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.ops.cif.backends import BACKENDS, cif


@pytest.mark.parametrize("T", [1, 7, 100, 1600, 100_000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_row_fires_exactly_its_target(T, dtype):
    B = 64 if T < 2000 else 4
    alpha = (torch.rand(B, T) * 0.3).to(dtype)
    target_lens = torch.randint(0, max(2, T // 3), (B,))
    target_lens[:3] = torch.tensor([0, 1, min(3 * T, 5000)])  # none, one, and more tokens than frames
    frame_lens = torch.randint(max(1, T // 2), T + 1, (B,))

    out = cif(torch.ones(B, T, 1), frame_lens, alpha, target_lens=target_lens, tail_threshold=2**-24)

    assert out.token_lens.tolist() == target_lens.tolist()
    assert out.remainder.tolist() == [0.0] * B
    past_end = torch.arange(out.acoustic_embeds.shape[1]) >= target_lens[:, None]
    torch.testing.assert_close(out.acoustic_embeds.squeeze(-1), (~past_end).float(), rtol=1e-5, atol=0)
    assert (out.fire_frames < frame_lens[:, None]).all()


@pytest.mark.parametrize("backend", BACKENDS)
@settings(max_examples=50)
@given(
    weights=st.lists(st.integers(1, 1024).map(lambda k: k / 1024), min_size=1, max_size=30),
    power=st.integers(-10, 5),
    target=st.integers(0, 60),
)
def test_only_the_proportions_of_weights_matter(backend, weights, power, target):
    frames, lens = torch.randn(1, len(weights), 3), torch.tensor([len(weights)])
    alpha, target_lens = torch.tensor([weights]), torch.tensor([target])

    got = cif(frames, lens, alpha * 2.0**power, target_lens=target_lens, backend=backend)

    want = cif(frames, lens, alpha, target_lens=target_lens, backend=backend)
    for field in ("acoustic_embeds", "token_lens", "fire_frames", "delays"):
        assert getattr(got, field).tolist() == getattr(want, field).tolist()


@settings(max_examples=50)
@given(seed=st.integers(0, 9999), factor=st.floats(1e-3, 50))
def test_a_factor_that_is_no_power_of_two_moves_embeddings_by_rounding_alone(seed, factor):
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(1, 30, 3, generator=generator, dtype=torch.float64)
    alpha = torch.rand(1, 30, generator=generator, dtype=torch.float64)
    lens, target_lens = torch.tensor([30]), torch.tensor([8])

    got = cif(frames, lens, alpha * factor, target_lens=target_lens).acoustic_embeds

    want = cif(frames, lens, alpha, target_lens=target_lens).acoustic_embeds
    torch.testing.assert_close(got, want, rtol=0, atol=30 * 8 * 2**-24 / factor + 1e-5)


def test_scaling_to_the_weight_that_is_there_changes_nothing():
    frames, alpha = torch.randn(1, 12, 3), torch.full((1, 12), 0.25)

    scaled = cif(frames, torch.tensor([12]), alpha, target_lens=torch.tensor([3]))

    plain = cif(frames, torch.tensor([12]), alpha)
    assert scaled.acoustic_embeds.tolist() == plain.acoustic_embeds.tolist()
    assert scaled.fire_frames.tolist() == plain.fire_frames.tolist()
