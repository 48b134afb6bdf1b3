import math

import torch

from cifasr.decoding.endpoint import Observation
from cifasr.decoding.pauses import FEATURES, PauseFeatures

FRAME_S = 0.02


def observed(alpha, loudness, *, num_ahead=0, confidence=0.9, gained=0.0):
    fired = (alpha.double().cumsum(0) + gained).floor().diff(prepend=torch.zeros(1) + math.floor(gained)).long()
    return Observation(alpha, loudness, fired, num_ahead, FRAME_S, 1.0, True, confidence)


def speech(num_frames, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_frames, generator=generator) * 0.2, torch.rand(num_frames, generator=generator)


def column(features, name):
    return features[:, FEATURES.index(name)]


def test_features_of_a_stream_in_chunks_are_those_of_the_whole():
    alpha, loudness = speech(400)
    alpha[200:260] = 0.0
    pauses = PauseFeatures()
    whole, _ = pauses(observed(alpha, loudness), pauses.begin())

    parts, state = [], pauses.begin()
    for first in range(0, 400, 40):
        end, shown = first + 40, min(first + 60, 400)
        gained = float(alpha[:first].double().sum())
        part, state = pauses(
            observed(alpha[first:shown], loudness[first:shown], num_ahead=shown - end, gained=gained), state
        )
        parts.append(part[:40])

    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-4)


def test_times_are_counted_from_what_happened_last():
    alpha, loudness = torch.zeros(100), torch.zeros(100)
    alpha[[10, 20]] = 1.0
    loudness[5:31] = 1.0

    features, _ = PauseFeatures()(observed(alpha, loudness), PauseFeatures().begin())

    def seconds(name):
        return column(features, name).exp() - 0.1

    assert abs(float(seconds("silence")[99]) - 79 * FRAME_S) < 1e-5
    assert abs(float(seconds("since_firing")[99]) - 79 * FRAME_S) < 1e-5
    assert abs(float(seconds("quiet")[99]) - 66 * FRAME_S) < 1e-5  # a mean of five frames falls below 0.35 three later
    assert column(features, "loudness")[[0, 20, 99]].tolist() == [0.0, 1.0, 0.0]


def test_the_speakers_pace_goes_on_in_the_next_segment_and_nothing_else_does():
    quick = torch.zeros(300)
    quick[::5] = 1.0
    pauses = PauseFeatures()

    _, after = pauses(observed(quick, torch.zeros(300)), pauses.begin())
    begun = pauses.begin(after)

    assert abs(float(begun["interval"]) - 0.1) < 0.01
    assert {name for name in begun if not torch.equal(begun[name], pauses.begin()[name])} == {"interval"}
