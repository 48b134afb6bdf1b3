import pytest

from cifasr.config import parse_config
from cifasr.decoding.endpoint import EndpointConfig, Observation, TrailingSilence
from cifasr.errors import ConfigError


@pytest.mark.parametrize(
    ("has_text", "silence_s", "segment_s", "ends"),
    [
        (True, 0.0, 10.0, False),
        (True, 1.1, 10.0, False),
        (True, 1.2, 10.0, True),
        (False, 1.2, 10.0, False),
        (False, 4.9, 10.0, False),
        (False, 5.0, 10.0, True),
        (True, 0.0, 29.9, False),
        (True, 0.0, 30.0, True),
        (False, 0.0, 30.0, True),
    ],
)
def test_a_segment_ends_after_silence_or_when_it_is_too_long(has_text, silence_s, segment_s, ends):
    assert TrailingSilence().ends(Observation(has_text, silence_s, segment_s)) == ends


def test_the_limits_can_be_chosen():
    endpointer = TrailingSilence(EndpointConfig(trailing_silence_s=0.5, initial_silence_s=2.0, max_utterance_s=7.0))

    assert endpointer.ends(Observation(has_text=True, silence_s=0.5, segment_s=1.0))
    assert endpointer.ends(Observation(has_text=False, silence_s=2.0, segment_s=2.0))
    assert endpointer.ends(Observation(has_text=True, silence_s=0.0, segment_s=7.0))
    assert not endpointer.ends(Observation(has_text=False, silence_s=1.9, segment_s=6.9))


@pytest.mark.parametrize("key", ["trailing_silence_s", "initial_silence_s", "max_utterance_s"])
def test_a_limit_of_nothing_is_refused(key):
    with pytest.raises(ConfigError, match=f"config key {key}"):
        parse_config(EndpointConfig, {key: 0.0})
