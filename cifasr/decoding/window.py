"""The frames that a decoder may look at: the last ones heard, and what is known of those that follow."""

import torch
from torch import Tensor

from cifasr.models.cif_asr import CifAsr
from cifasr.nn.state import State, merged, scoped

Frames = list[tuple[Tensor, Tensor] | None]
"""Keys and values of frames, (1, H, T, D / H) each, for every layer of the decoder that has a window."""


class Window:
    """Moves over the frames of a segment.

    Args:
        model: The recogniser.
        num_frames: Kept of those that were heard.

    Attributes:
        frames: All that may be looked at.
    """

    def __init__(self, model: CifAsr, num_frames: int) -> None:
        self._decoder = model.decoder
        self._num_frames = num_frames
        self._heard: Frames = model.decoder.project_memory(torch.zeros(1, 0, model.config.encoder.d_model))
        self.frames = self._heard

    def move(self, encoder_out: Tensor, ahead: Tensor) -> None:
        """Move on.

        Args:
            encoder_out: (1, n, D), the frames of the chunk just heard.
            ahead: (1, m, D), what is known of those that follow; seen until the next move brings them again.
        """
        self._heard = self._joined(self._heard, encoder_out, self._num_frames)
        self.frames = self._joined(self._heard, ahead, None) if ahead.shape[1] else self._heard

    def end(self) -> None:
        """Leave what lies ahead to the next segment."""
        self.frames = self._heard

    def state(self) -> State:
        """Take the state out."""
        return merged({"heard": _as_state(self._heard), "frames": _as_state(self.frames)})

    def restore(self, state: State) -> None:
        """Put a state back in."""
        self._heard, self.frames = (_from_state(scoped(state, part), len(self._heard)) for part in ("heard", "frames"))

    def _joined(self, frames: Frames, encoder_out: Tensor, num_kept: int | None) -> Frames:
        """Put new frames behind others, and keep the last of them."""
        new = self._decoder.project_memory(encoder_out)
        first = None if num_kept is None else -num_kept
        return [
            None
            if old is None or add is None
            else (torch.cat([old[0], add[0]], dim=2)[:, :, first:], torch.cat([old[1], add[1]], dim=2)[:, :, first:])
            for old, add in zip(frames, new, strict=True)
        ]


def _as_state(frames: Frames) -> State:
    return merged({str(i): {"keys": kv[0], "values": kv[1]} for i, kv in enumerate(frames) if kv is not None})


def _from_state(state: State, num_layers: int) -> Frames:
    layers = [scoped(state, str(i)) for i in range(num_layers)]
    return [(layer["keys"], layer["values"]) if layer else None for layer in layers]
