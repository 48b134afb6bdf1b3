"""Who ends segments, and when at the latest. Without torch, so that a command's help is quick."""

from enum import StrEnum

from pydantic import Field

from cifasr.config import Config


class EndpointerKind(StrEnum):
    """Who says that the speaker has finished."""

    silence = "silence"
    logistic = "logistic"
    forward_model = "forward_model"
    spiking = "spiking"


class EndpointConfig(Config):
    """Who ends segments, and limits in seconds that hold whoever it is."""

    endpointer: EndpointerKind = Field(
        EndpointerKind.silence, description="who says that the speaker has finished; silence is the limits alone"
    )
    trailing_silence_s: float = Field(
        1.2, gt=0.0, description="ends a segment that has text; other endpointers cut off as rarely, and end sooner"
    )
    initial_silence_s: float = Field(5.0, gt=0.0, description="restarts one that has none")
    max_utterance_s: float = Field(30.0, gt=0.0, description="ends any segment")
