"""Let an actor of spikes, or a dense one, learn to hold a pendulum upright, from the same deep critic.

``python recipes/spiking/pendulum.py --actor spiking --seed 0 --out exp/pendulum.jsonl``; a few minutes of one core.
Each line that is written says how well the actor did after so many steps. Needs ``pip install -e ".[spiking]"``.
"""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import gymnasium
import numpy as np
import torch
import typer
from stable_baselines3 import TD3
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.td3.policies import Actor, TD3Policy
from torch import nn

from cifasr.spiking.population import SpikingActor

SPAN = (-3.0, 3.0)  # what both actors see of an observation: what the populations cover
HIDDEN, CRITIC_HIDDEN = [64, 64], [128, 128]
EVALUATION_SEED = 10_000  # far from the seeds that are trained on


class ActorKind(StrEnum):
    """Who decides."""

    spiking = "spiking"
    dense = "dense"


class SpikingPolicy(TD3Policy):
    """TD3's policy with its actor's network, and nothing else, in spikes."""

    def make_actor(self, features_extractor: BaseFeaturesExtractor | None = None) -> Actor:
        """Make the actor, or its target."""
        actor = super().make_actor(features_extractor)
        net = SpikingActor(actor.features_dim, self.action_space.shape[0], hidden=actor.net_arch, span=SPAN)
        actor.mu = nn.Sequential(net, nn.Tanh()).to(self.device)
        return actor


class LearningCurve(BaseCallback):
    """Writes a line of JSON every so many steps: the returns of whole episodes without noise.

    Args:
        path: Lines are added to it.
        name: What stands in every line: who learns.
        every_steps: Steps between two lines.
        num_episodes: Episodes a line; the last line has ten times as many.
        num_steps: Steps of the whole run.
    """

    def __init__(
        self, path: Path, name: dict[str, str | int], *, every_steps: int, num_episodes: int, num_steps: int
    ) -> None:
        super().__init__()
        self.path, self.name, self.every_steps = path, name, every_steps
        self.num_episodes, self.num_steps = num_episodes, num_steps

    def _on_step(self) -> bool:
        if self.num_timesteps % self.every_steps == 0:
            last = self.num_timesteps == self.num_steps
            num_episodes = self.num_episodes * (10 if last else 1)
            envs = make_vec_env(make_env, n_envs=self.num_episodes, seed=EVALUATION_SEED)
            returns, _ = evaluate_policy(self.model, envs, num_episodes, return_episode_rewards=True)
            line = self.name | {
                "step": self.num_timesteps,
                "episodes": num_episodes,
                "mean": round(float(np.mean(returns)), 1),
                "std": round(float(np.std(returns)), 1),
            }
            with self.path.open("a") as file:
                print(json.dumps(line), file=file)
        return True


def make_env() -> gymnasium.Env[np.ndarray, np.ndarray]:
    """Make the pendulum, whose observations are brought to `SPAN`."""
    return gymnasium.wrappers.RescaleObservation(gymnasium.make("Pendulum-v1"), *map(np.float32, SPAN))


def make_learner(actor: ActorKind, seed: int, *, learning_starts: int = 1000) -> TD3:
    """Make the learner: all the same for both actors but the actor's network."""
    return TD3(
        SpikingPolicy if actor is ActorKind.spiking else "MlpPolicy",
        make_env(),
        policy_kwargs={"net_arch": {"pi": HIDDEN, "qf": CRITIC_HIDDEN}},
        learning_rate=1e-3,
        gamma=0.98,
        batch_size=128,
        learning_starts=learning_starts,
        action_noise=NormalActionNoise(np.zeros(1), np.full(1, 0.1)),
        seed=seed,
        device="cpu",
    )


def main(
    out: Annotated[Path, typer.Option(help="File that lines are added to.")],
    actor: Annotated[ActorKind, typer.Option(help="Who decides.")] = ActorKind.spiking,
    seed: Annotated[int, typer.Option(help="Of weights, starts and noise.")] = 0,
    steps: Annotated[int, typer.Option(help="Steps of the pendulum, 0.05 s each.")] = 20_000,
    every: Annotated[int, typer.Option(help="Steps between two evaluations.")] = 1000,
    episodes: Annotated[int, typer.Option(help="Episodes of an evaluation.")] = 10,
) -> None:
    """Train one actor."""
    torch.set_num_threads(1)
    learner = make_learner(actor, seed)
    curve = LearningCurve(
        out, {"actor": actor.value, "seed": seed}, every_steps=every, num_episodes=episodes, num_steps=steps
    )
    learner.learn(steps, callback=curve, progress_bar=True)


if __name__ == "__main__":
    typer.run(main)
