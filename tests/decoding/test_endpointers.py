import pytest
import torch

from cifasr.decoding.endpoint import Observation, TrailingSilence
from cifasr.decoding.endpoint_config import EndpointConfig, EndpointerKind
from cifasr.decoding.endpointers import SILENCES_S, Foretelling, make_endpointer, threshold_of

FRAME_S = 0.02
TRAINED = [kind for kind in EndpointerKind if kind is not EndpointerKind.silence]


def speech_then_quiet(speech_s, quiet_s, *, seed=0):
    """Four tokens a second, loud, then nothing."""
    generator = torch.Generator().manual_seed(seed)
    num_speech, num_quiet = round(speech_s / FRAME_S), round(quiet_s / FRAME_S)
    alpha = torch.cat([torch.rand(num_speech, generator=generator) * 0.16, torch.zeros(num_quiet)])
    loudness = torch.cat([torch.rand(num_speech, generator=generator), torch.zeros(num_quiet)]) - 1.0
    return alpha, loudness


def chunks(alpha, loudness, *, ahead=16, has_text=True):
    firings = alpha.double().cumsum(0).floor().diff(prepend=torch.zeros(1, dtype=torch.float64)).long()
    for first in range(0, len(alpha) - 32 - ahead + 1, 32):
        shown = slice(first, first + 32 + ahead)
        segment_s = (first + 32) * FRAME_S
        yield Observation(alpha[shown], loudness[shown], firings[shown], ahead, FRAME_S, segment_s, has_text, 0.9)


def ended_after_s(endpointer, observations):
    """How much of the audio had been heard, what lies ahead too; None if it never ended."""
    state = endpointer.begin()
    for observation in observations:
        over, state = endpointer.ends(observation, state)
        if over:
            return observation.segment_s + observation.num_ahead * FRAME_S
    return None


@pytest.mark.parametrize("kind", TRAINED)
def test_a_trained_endpointer_ends_after_speech_and_not_within_it(kind):
    endpointer = make_endpointer(EndpointConfig(endpointer=kind))

    ended_s = ended_after_s(endpointer, chunks(*speech_then_quiet(5.12, 4.0)))

    assert 5.12 < ended_s <= 5.12 + 2 * 1.2 + 0.64


@pytest.mark.parametrize("kind", TRAINED)
def test_a_longer_trailing_silence_makes_it_more_patient(kind):
    ended_s = [
        ended_after_s(
            make_endpointer(EndpointConfig(endpointer=kind, trailing_silence_s=silence_s)),
            chunks(*speech_then_quiet(5.12, 5.0)),
        )
        for silence_s in (0.4, 1.9)
    ]

    assert ended_s[0] < ended_s[1]


@pytest.mark.parametrize("kind", TRAINED)
def test_limits_hold_for_every_endpointer(kind):
    endpointer = make_endpointer(EndpointConfig(endpointer=kind, max_utterance_s=2.0, initial_silence_s=3.0))

    speaking_s = ended_after_s(endpointer, chunks(*speech_then_quiet(5.12, 0.0)))
    silent = EndpointConfig(endpointer=kind, initial_silence_s=3.0)
    silent_s = ended_after_s(make_endpointer(silent), chunks(*speech_then_quiet(0.0, 5.0), has_text=False))

    assert speaking_s == pytest.approx(2.56 + 0.32)
    assert silent_s == pytest.approx(3.2 + 0.32)


@pytest.mark.parametrize("kind", EndpointerKind)
def test_a_state_can_be_taken_out_and_put_back(kind):
    endpointer = make_endpointer(EndpointConfig(endpointer=kind))
    observations = list(chunks(*speech_then_quiet(3.0, 2.0)))

    def ends(pickle):
        state, answers = endpointer.begin(), []
        for observation in observations:
            over, state = endpointer.ends(observation, pickle(state))
            answers.append(over)
        return answers

    assert ends(lambda state: state) == ends(lambda state: {name: value.clone() for name, value in state.items()})


def test_silence_is_the_rule_of_trailing_silence():
    assert isinstance(make_endpointer(EndpointConfig(endpointer="silence")), TrailingSilence)


def test_patience_lies_on_lines_between_the_silences():
    patience = torch.tensor(SILENCES_S) * 10 + torch.tensor([0.0] * 9 + [1.0])

    thresholds = [threshold_of(patience, silence_s) for silence_s in (0.2, 0.3, 1.0, 1.9, 0.1)]

    assert thresholds == pytest.approx([2.0, 3.0, 10.0, 19.5, 1.0], abs=1e-4)


def test_the_forward_model_learns_a_speaker_who_says_more_than_was_foretold():
    generator, size = torch.Generator().manual_seed(0), 8
    parameters = {
        "mean": torch.zeros(9),
        "scale": torch.ones(9),
        "recurrent": 0.1 * torch.randn(size, size, generator=generator),
        "inward": 0.3 * torch.randn(size, 9, generator=generator),
        "bias": torch.zeros(size),
        "leak": torch.tensor(0.5),
        "readout": torch.zeros(size + 1, 1),
    }
    alpha, loudness = (torch.cat([part, part]) for part in speech_then_quiet(3.0, 1.5))

    def expected(beta):
        scorer = Foretelling(parameters, beta=beta)
        state = scorer.begin()
        for observation in chunks(alpha, loudness):
            scores, state = scorer.score(observation, state)
        return -float(scores[-1]), scorer.begin(state)["readout"]

    assert expected(0.0)[0] == 0.0
    assert 0.2 < expected(0.5)[0] < 1.5
    assert expected(0.5)[1].abs().max() > 0  # and it is remembered in the next segment
