"""The model in the box, and how any model is opened for recognition."""

from enum import StrEnum
from pathlib import Path

from cifasr.errors import BackendUnavailableError
from cifasr.models.checkpoint import load_checkpoint
from cifasr.models.cif_asr import CifAsr
from cifasr.nn.int8 import has_int8, use_int8

PRETRAINED_PATH = Path(__file__).with_name("cifasr-tiny.en.safetensors")


class WeightFormat(StrEnum):
    """In what form weights are multiplied; "auto" is int8 where the processor has VNNI, and float32 elsewhere."""

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
        BackendUnavailableError: int8 was asked for by name, and the processor has no VNNI.
    """
    if weights is WeightFormat.int8 and not has_int8():
        raise BackendUnavailableError("weights: wanted auto or float32 on a processor without VNNI, got int8")
    model = load_checkpoint(PRETRAINED_PATH if path is None else path)
    if weights is not WeightFormat.float32 and has_int8():
        use_int8(model)
    return model
