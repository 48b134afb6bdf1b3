import pytest
import torch

from cifasr.config import parse_config
from cifasr.decoding.endpoint import Observation, Silence, TrailingSilence
from cifasr.decoding.endpoint_config import EndpointConfig
from cifasr.errors import ConfigError

FRAME_S = 0.02


def observed(weights, *, num_ahead=0, segment_s=10.0, has_text=True, confidence=0.9):
    alpha = torch.tensor(weights)
    firings = alpha.cumsum(0).floor().diff(prepend=torch.zeros(1)).long()
    return Observation(alpha, torch.zeros_like(alpha), firings, num_ahead, FRAME_S, segment_s, has_text, confidence)


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
    weights = [1.0] + [0.0] * round(silence_s / FRAME_S)
    endpointer = TrailingSilence()

    over, _ = endpointer.ends(observed(weights, has_text=has_text, segment_s=segment_s), endpointer.begin())

    assert over == ends


def test_the_limits_can_be_chosen():
    endpointer = TrailingSilence(EndpointConfig(trailing_silence_s=0.5, initial_silence_s=2.0, max_utterance_s=7.0))
    quiet = [1.0] + [0.0] * 25

    def ends(weights, **known):
        return endpointer.ends(observed(weights, **known), endpointer.begin())[0]

    assert ends(quiet, segment_s=1.0)
    assert not ends(quiet[:-1], segment_s=1.0)
    assert ends(quiet * 4, segment_s=7.0)
    assert not ends(quiet, has_text=False, segment_s=6.9)


def test_silence_goes_on_from_chunk_to_chunk_and_what_lies_ahead_is_not_counted_twice():
    silence = Silence()
    whole, _ = silence.score(observed([0.5, 0.25, 0.09, 0.09, 0.09, 0.09]), silence.begin())

    first, state = silence.score(observed([0.5, 0.25, 0.09, 0.9], num_ahead=1), silence.begin())
    second, _ = silence.score(observed([0.09, 0.09, 0.09]), state)

    assert torch.cat([first[:3], second]).tolist() == whole.tolist()
    assert (whole / FRAME_S).round().tolist() == [0, 1, 1, 2, 3, 3]


@pytest.mark.parametrize("key", ["trailing_silence_s", "initial_silence_s", "max_utterance_s"])
def test_a_limit_of_nothing_is_refused(key):
    with pytest.raises(ConfigError, match=f"config key {key}"):
        parse_config(EndpointConfig, {key: 0.0})
