"""A recogniser of random weights, whose words depend on the sounds it hears; and such sounds."""

import numpy as np
import pytest
import torch

from cifasr.models.checkpoint import save_checkpoint
from cifasr.models.cif_asr import CifAsr, CifAsrConfig, DecoderConfig, EncoderConfig, EstimatorConfig
from cifasr.text.tokenizer import tokenizer_from_pieces

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "old", "stone", "wall"]


@pytest.fixture(scope="session")
def babbler(tmp_path_factory):
    """A checkpoint. Each of its tokens is a word."""
    torch.manual_seed(3)
    small = {"num_heads": 2, "d_model": 32}
    config = CifAsrConfig(
        name="babbler",
        encoder=EncoderConfig(kind="whisper", num_layers=2, d_ff=64, **small),
        estimator=EstimatorConfig(num_layers=1, initial_weight=0.06, **small),
        decoder=DecoderConfig(num_layers=1, d_ff=64, window_ms=320, **small),
    )
    model = CifAsr(config, tokenizer_from_pieces({f" {word}": 1.0 for word in WORDS}))
    with torch.no_grad():  # else it repeats one word, and hears the place of a frame more than its sound
        for weight in [*model.encoder.parameters(), *model.decoder.parameters()]:
            weight *= 3.0
    path = tmp_path_factory.mktemp("model") / "babbler.safetensors"
    save_checkpoint(model, path)
    return path


@pytest.fixture(scope="session")
def sound():
    """``sound(seconds, seed)``: a tone of random pitch each quarter of a second, at 16 kHz."""

    def make(seconds, seed=0):
        rng = np.random.default_rng(seed)
        moment = np.arange(round(16_000 * seconds)) / 16_000
        pitch_hz = rng.uniform(100, 6000, int(4 * seconds) + 1)[(4 * moment).astype(int)]
        return (0.4 * np.sin(2 * np.pi * pitch_hz * moment) + rng.uniform(-0.01, 0.01, len(moment))).astype(np.float32)

    return make
