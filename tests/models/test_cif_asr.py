import pytest
import torch

from cifasr.errors import ConfigError
from cifasr.nn.context import Context


@pytest.mark.parametrize(("kind", "frame_ms", "window_frames"), [("conformer", 80, 50), ("whisper", 20, 200)])
def test_lengths_in_milliseconds_become_frames_of_the_encoder(tiny_model, kind, frame_ms, window_frames):
    model = tiny_model(kind)

    assert model.frame_ms == frame_ms
    assert model.window_frames == window_frames
    assert model.context(640, 1280) == Context(640 // frame_ms, 1280 // frame_ms)
    assert model.context(None, None) == Context(None, None)


@pytest.mark.parametrize("chunk_ms", [0, 40, 100, -80])
def test_a_chunk_that_is_no_whole_number_of_frames_is_refused(tiny_model, chunk_ms):
    with pytest.raises(ConfigError, match=f"chunk_ms: wanted a multiple of 80 .*, got {chunk_ms}"):
        tiny_model("conformer").context(chunk_ms, None)


@torch.no_grad()
def test_encoding_weighs_every_frame(tiny_model):
    model = tiny_model("conformer")

    encoder_out, lens, alpha = model.encode(torch.randn(2, 41, 80), torch.tensor([41, 8]), Context())

    assert encoder_out.shape == (2, 6, 16)
    assert lens.tolist() == [6, 1]
    assert alpha.shape == (2, 6)
    assert ((alpha > 0) & (alpha < 1)).all()


@torch.no_grad()
def test_the_ctc_branch_scores_a_distribution_a_frame(tiny_model):
    model = tiny_model(ctc=True)

    log_probs = model.ctc_log_probs(torch.randn(2, 5, 16))

    assert log_probs.shape == (2, 5, model.tokenizer.vocab_size)
    torch.testing.assert_close(log_probs.exp().sum(-1), torch.ones(2, 5))


def test_a_model_without_a_ctc_branch_says_so(tiny_model):
    with pytest.raises(ConfigError, match="ctc: wanted true"):
        tiny_model().ctc_log_probs(torch.randn(1, 5, 16))


def test_the_number_of_parameters_is_what_they_sum_to(tiny_model):
    model = tiny_model()

    assert model.num_parameters == sum(p.numel() for p in model.parameters())
