"""Seeds, Hypothesis profiles, what is skipped aloud, and a small random recogniser."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from cifasr.config import parse_config
from cifasr.models.cif_asr import CifAsr, CifAsrConfig
from cifasr.text.tokenizer import Tokenizer, tokenizer_from_pieces

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # before anything imports triton: kernels run on the CPU, slowly

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"

settings.register_profile("local", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    no_data = pytest.mark.skip(reason=f"needs the real speech in {SHARED_DATA}, which is absent")
    no_gpu = pytest.mark.skip(reason="needs a CUDA device")
    for item in items:
        if item.get_closest_marker("shared_data") and not SHARED_DATA.is_dir():
            item.add_marker(no_data)
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(no_gpu)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real speech; skips aloud where it is absent, with or without the mark."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"needs the real speech in {SHARED_DATA}, which is absent")
    return SHARED_DATA


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Tokenizer:
    """Letters a to h, the space, and a few longer pieces; ids 0 to 3 are the control pieces."""
    pieces = [" ", *"abcdefgh", " a", " the", "he", "bed", " cab", " face", " g"]
    return tokenizer_from_pieces({piece: 40.0 - place for place, piece in enumerate(pieces)})


@pytest.fixture(scope="session")
def tiny_model(tiny_tokenizer: Tokenizer) -> Callable[..., CifAsr]:
    """A builder of small random recognisers that fire on noise several times a second, and then mostly write."""

    def build(kind: str = "conformer", *, window_ms: int = 4000, seed: int = 0, width: int = 16, **more) -> CifAsr:
        shape = {"num_layers": 2, "d_model": width, "num_heads": 2}
        config = {
            "encoder": {"kind": kind, "d_ff": 2 * width, "kernel_size": 5, **shape},
            "estimator": {"kernel_size": 3, **shape, "num_layers": 1},
            "decoder": {"window_ms": window_ms, "d_ff": 2 * width, "max_tokens": 64, **shape},
        }
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = CifAsr(parse_config(CifAsrConfig, config | more), tiny_tokenizer).eval()
            model.estimator.head.weight.data.normal_(std=0.5)
            model.estimator.head.bias.data.fill_({"conformer": -1.0, "whisper": -2.2}[kind])
            model.decoder.embedding.weight.data.normal_()
            model.decoder.embedding.weight.data[tiny_tokenizer.nothing_id] *= 1.3
            model.decoder.positions.data.normal_()
            model.decoder.norm.weight.data.normal_()  # or a token would be followed by itself
            if model.decoder.fired_projection:
                model.decoder.fired_projection.weight.data.normal_(std=2 * width**-0.5)
        return model

    return build
