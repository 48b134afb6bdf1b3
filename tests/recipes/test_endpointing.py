import sys
from pathlib import Path

import pytest
import torch

from cifasr.cerebellum.dopamine import expectiles
from cifasr.decoding.endpoint import Observation
from cifasr.decoding.pauses import FEATURES

sys.path.append(str(Path(__file__).resolve().parents[2] / "recipes" / "cerebellum"))  # a recipe is scripts, no package

import endpointing
from turns import Track

FRAME_S = 0.02
CHUNK, AHEAD = 32, 16


def turn(seed, *, pause_s, speech_s=1.28, quiet_s=2.56):
    """Speech, a pause, speech, quiet: in chunks of 0.64 s, each with 0.32 s that lie ahead."""
    generator = torch.Generator().manual_seed(seed)
    parts = [(speech_s, 0.16), (pause_s, 0.0), (speech_s, 0.16), (quiet_s + AHEAD * FRAME_S, 0.0)]
    level = torch.cat([torch.full((round(seconds / FRAME_S),), weight) for seconds, weight in parts])
    alpha = level * torch.rand(len(level), generator=generator)
    loudness = (level > 0) * torch.rand(len(level), generator=generator)
    firings = alpha.double().cumsum(0).floor().diff(prepend=torch.zeros(1, dtype=torch.float64)).long()
    observations = []
    for first in range(0, len(alpha) - CHUNK - AHEAD + 1, CHUNK):
        shown, segment_s = slice(first, first + CHUNK + AHEAD), (first + CHUNK) * FRAME_S
        sure = float(torch.rand(1, generator=generator))
        observations.append(
            Observation(alpha[shown], loudness[shown], firings[shown], AHEAD, FRAME_S, segment_s, True, sure)
        )
    return Track("made", "nobody", "joined", noisy=False, end_s=2 * speech_s + pause_s, observations=observations)


@pytest.fixture(scope="module")
def tracks():
    return [turn(seed, pause_s=0.4 + 0.02 * seed if seed % 2 else 0.0) for seed in range(30)]


def test_the_critic_learns_the_expectiles_of_both_actions():
    torch.manual_seed(0)
    critic, obs = endpointing.Critic(), torch.zeros(400, len(FEATURES))
    rewards = torch.stack([torch.rand(400).round() * -1.0, torch.randn(400) - 3.0], 1)
    optimizer = torch.optim.Adam(critic.parameters(), 1e-2)

    for _ in range(400):
        optimizer.zero_grad()
        critic.loss(critic(obs), rewards).backward()
        optimizer.step()

    assert torch.allclose(critic(obs[:1])[0], expectiles(rewards.T, critic.taus), atol=0.02)


def test_the_timer_ends_a_turn_as_late_as_it_is_patient(tracks):
    seen = endpointing.watch(tracks)
    frames, chunks = endpointing.scores("silence", {}, seen)

    _, median_s, p90_s = endpointing.curve(frames, seen, chunks=False).at(0.0)
    _, chunk_s, _ = endpointing.curve(chunks, seen, chunks=True).at(0.0)

    # The longest pause is 0.98 s, and so must be the silence.
    assert median_s == pytest.approx(1.0, abs=0.15)
    assert p90_s - median_s < 0.2
    assert chunk_s >= median_s


def test_what_is_trained_ends_turns_of_which_it_cuts_none(tracks, tmp_path, capsys):
    torch.save(tracks, tmp_path / "tracks.pt")

    endpointing.train(tmp_path / "tracks.pt", tmp_path / "numbers.safetensors", steps=150)
    endpointing.measure(tmp_path / "tracks.pt", tmp_path / "numbers.safetensors")

    numbers = endpointing.load_file(tmp_path / "numbers.safetensors")
    seen = endpointing.watch(tracks)
    for name in ("logistic", "spiking"):
        frames, _ = endpointing.scores(name, endpointing.scoped(numbers, name), seen)
        _, median_s, p90_s = endpointing.curve(frames, seen, chunks=False).at(0.0)
        assert 0.0 < median_s <= p90_s < 1.5  # the audio goes on for 2.5 s
    assert {numbers[f"{name}.patience"].shape for name in ("logistic", "forward_model", "spiking")} == {(10,)}
    assert capsys.readouterr().out.count("endpointer") == 3 + 4
