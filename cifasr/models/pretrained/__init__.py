"""The model in the box: what every command uses where no checkpoint is named."""

from pathlib import Path

from cifasr.models.checkpoint import load_checkpoint
from cifasr.models.cif_asr import CifAsr

PRETRAINED_PATH = Path(__file__).with_name("cifasr-tiny.en.safetensors")


def load_model(path: Path | None = None) -> CifAsr:
    """Open a checkpoint, in evaluation mode.

    Args:
        path: The file; None for the model in the box.

    Raises:
        CheckpointError: See `load_checkpoint`.
    """
    return load_checkpoint(PRETRAINED_PATH if path is None else path)
