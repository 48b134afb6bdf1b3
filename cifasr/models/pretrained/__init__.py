"""The model in the box, and how any model is opened for recognition."""

from enum import StrEnum
from pathlib import Path

from cifasr.models.checkpoint import load_checkpoint
from cifasr.models.cif_asr import CifAsr
from cifasr.nn.int8 import is_int8_quick, use_int8

PRETRAINED_PATH = Path(__file__).with_name("cifasr-tiny.en.safetensors")


class WeightFormat(StrEnum):
    """In what form weights are multiplied; "auto" is int8 on a processor that does so quickly and exactly."""

    auto = "auto"
    float32 = "float32"
    int8 = "int8"


def load_model(path: Path | None = None, weights: WeightFormat = WeightFormat.auto) -> CifAsr:
    """Open a checkpoint for recognition.

    Args:
        path: The file; None for the model in the box, which every command uses where no checkpoint is named.
        weights: How to multiply.

    Raises:
        CheckpointError: See `load_checkpoint`.
    """
    model = load_checkpoint(PRETRAINED_PATH if path is None else path)
    if weights is WeightFormat.int8 or (weights is WeightFormat.auto and is_int8_quick()):
        use_int8(model)
    return model
