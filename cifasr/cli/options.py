"""Options of the recogniser, as commands are asked for them."""

from collections.abc import Sequence

from cifasr.config import load_config
from cifasr.decoding.streaming import StreamingOptions
from cifasr.errors import ConfigError

_CHUNKING = {"chunk_ms", "left_context_ms"}


def recogniser_options(asked: Sequence[str], *, offline: bool) -> StreamingOptions:
    """Read options.

    Args:
        asked: Each ``key=value``; what is not asked for keeps its default.
        offline: Hear each utterance whole.

    Raises:
        ConfigError: An option is not one of them, or is one of chunks and there are none.
    """
    options = load_config(StreamingOptions, overrides=asked)
    if not offline:
        return options
    for key in sorted(options.model_fields_set & _CHUNKING):
        raise ConfigError(f"{key}: wanted none, since offline has no chunks, got {getattr(options, key)}")
    return options.model_copy(update=dict.fromkeys(_CHUNKING))
