import importlib
import json
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from lhotse import CutSet

sys.path.append(str(Path(__file__).resolve().parents[2] / "recipes" / "spiking"))  # a recipe is scripts, no package

import digits
import formants
from speakers import draw_speaker

from cifasr.data.batches import TOKEN_ALIGNMENT
from tests.made_speech import make_cut

needs_gym = pytest.mark.skipif(
    find_spec("stable_baselines3") is None, reason="needs stable-baselines3: pip install -e '.[spiking]'"
)


@pytest.fixture(scope="module")
def pendulum():
    with warnings.catch_warnings():  # other people's, on import
        warnings.simplefilter("ignore")
        return importlib.import_module("pendulum")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@needs_gym
@pytest.mark.parametrize("actor", ["spiking", "dense"])
def test_an_actor_learns_from_the_critic_and_its_curve_is_written(pendulum, actor, tmp_path):
    learner = pendulum.make_learner(pendulum.ActorKind(actor), 0, learning_starts=10)
    before = [x.clone() for x in learner.actor.parameters()]
    curve = pendulum.LearningCurve(tmp_path / "x", {"actor": actor}, every_steps=20, num_episodes=1, num_steps=40)

    learner.learn(20, callback=curve)

    assert all(not torch.equal(x, y) for x, y in zip(before, learner.actor.parameters(), strict=True))
    (line,) = lines(tmp_path / "x")
    assert (line["actor"], line["step"], line["episodes"]) == (actor, 20, 1)
    assert -1900 < line["mean"] < 0


@needs_gym
def test_both_actors_differ_in_nothing_but_the_network(pendulum):
    spiking, dense = (pendulum.make_learner(actor, 0) for actor in pendulum.ActorKind)

    assert type(spiking.actor.mu[0]) is pendulum.SpikingActor
    assert [type(x) for x in spiking.critic.modules()] == [type(x) for x in dense.critic.modules()]
    assert spiking.policy_kwargs == dense.policy_kwargs


def test_a_vowel_has_the_formants_of_its_speaker():
    speaker = draw_speaker(0, 0)
    rng = np.random.default_rng(0)

    samples = formants.speak("three", speaker, rng, slur=0.0)

    end = samples[-int(0.06 * 16_000) :]  # the vowel of "see": nothing between the first and second formants
    power = np.abs(np.fft.rfft(end * np.hanning(len(end)))) ** 2
    hz = np.fft.rfftfreq(len(end), 1 / 16_000) / speaker.formant_scale
    bands = [power[(hz > low) & (hz < high)].sum() for low, high in ((0, 500), (1000, 1500), (1900, 2700))]
    assert min(bands[0], bands[2]) > 5 * bands[1]


def test_every_digit_is_said_by_sounds_there_are_and_nobody_says_it_twice_alike():
    rng = np.random.default_rng(0)

    said = {word: [formants.speak(word, draw_speaker(0, 1), rng) for _ in range(2)] for word in formants.DIGITS}

    assert len(said) == 10
    assert all(len(x) != len(y) and 1600 < len(x) < 16_000 and np.abs(x).max() == 0.5 for x, y in said.values())


def test_spikes_learn_digits_of_speakers_that_they_never_heard(tmp_path):
    for neurons in ("lif", "dense"):
        digits.main(tmp_path / "x", digits.Neurons(neurons), "2,1,1 1,1,1", None, 0, steps=30, speakers=8)

    spiking, fast, dense, _ = lines(tmp_path / "x")
    assert spiking["schedule"] == [2, 1, 1]
    assert min(spiking["accuracy"], fast["accuracy"], dense["accuracy"]) > 0.3  # chance is 0.1
    assert fast["operations_per_s"] < spiking["operations_per_s"]


def test_digits_are_cut_where_they_are_aligned_and_every_fifth_speaker_is_held_out(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "DIGITS", {"go": "", "left": ""})  # words of the made speech
    cuts = [make_cut(tmp_path, f"{speaker}-0", ["go", "no", "left"]) for speaker in "abcdef"]
    path = tmp_path / "cuts.jsonl.gz"
    CutSet.from_cuts(cuts).to_file(path)

    train, test = digits.cut_digits(path)

    assert [item.symbol for item in cuts[0].supervisions[0].alignment[TOKEN_ALIGNMENT]] == ["go", "no", "left"]
    assert train.targets.tolist() == [0, 1] * 4
    assert test.targets.tolist() == [0, 1] * 2  # of a and f
    assert train.feat_lens.unique().tolist() == [10]  # 0.3 s in frames of 30 ms
