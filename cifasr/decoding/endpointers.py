"""Endpointers that were trained on turns with pauses, and the one that is chosen by name.

Their numbers lie in ``endpointers.safetensors`` beside this file, which `recipes/cerebellum/endpointing.py` writes.
They belong to the weights of the model in the box; with another model they are worth a new training.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from cifasr.cerebellum.forward_model import EchoState
from cifasr.decoding.endpoint import Endpointer, Observation, Scorer, Silence, TrailingSilence
from cifasr.decoding.endpoint_config import EndpointConfig, EndpointerKind
from cifasr.decoding.pauses import FEATURES, PauseFeatures
from cifasr.nn.state import State, merged, scoped
from cifasr.spiking.population import SpikingActor

PARAMETERS_PATH = Path(__file__).with_name("endpointers.safetensors")

HORIZON_S = 2.0
"""How far the forward model foretells, in seconds."""

LOG_ASKED = math.log(0.1 + 0.5)
"""It foretells from half a second of silence on: its feature "silence" is then above this."""


class FrameScorer(ABC):
    """Scores each frame by its features and nothing else."""

    def __init__(self) -> None:
        self._features = PauseFeatures()

    def begin(self, state: State | None = None) -> State:
        """Begin a segment; the speaker's pace goes on."""
        return self._features.begin(state)

    def score(self, observation: Observation, state: State) -> tuple[Tensor, State]:
        """Score all n frames."""
        features, state = self._features(observation, state)
        return self.of_features(features), state

    @abstractmethod
    def of_features(self, features: Tensor) -> Tensor:
        """Score by features, (..., F) to (...)."""


class Logistic(FrameScorer):
    """Scores a frame by the log odds that the speaker has finished, linear in the features.

    Args:
        parameters: "mean", "scale" and "weights" (F,), "bias" (1,).
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._parameters = parameters

    def of_features(self, features: Tensor) -> Tensor:
        """Weigh them."""
        p = self._parameters
        return (features - p["mean"]) / p["scale"] @ p["weights"] + p["bias"]


class Voting(FrameScorer):
    """Scores a frame by how much better an actor of spiking neurons holds it to end now than to wait.

    Args:
        parameters: "mean" and "scale" (F,), and the actor's.
    """

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        super().__init__()
        weights = scoped(parameters, "actor")
        self._actor = SpikingActor(len(FEATURES), 2, hidden=(len(weights["linears.0.bias"]),))
        self._actor.load_state_dict(weights)
        self._mean, self._scale = parameters["mean"], parameters["scale"]

    @torch.no_grad()
    def of_features(self, features: Tensor) -> Tensor:
        """Let it decide on each frame from rest."""
        obs = ((features - self._mean) / self._scale).flatten(0, -2)
        worth: Tensor = self._actor(obs)  # (rows, 2): of waiting and of ending
        return (worth[:, 1] - worth[:, 0]).view(features.shape[:-1])


class Foretelling:
    """Scores a frame by how little a forward model expects to be said in the next two seconds, in tokens, below zero.

    An echo state hears the features of every frame. Two seconds later it is known what came, counted up to one token:
    that error, the climbing fibre, changes the readout, which goes on from segment to segment as the speaker does.

    Args:
        parameters: "mean", "scale" (F,), "recurrent", "inward", "bias", "leak", "readout" of the echo state.
        beta: Share of an error that is mended; 0 learns nothing of the speaker.
    """

    def __init__(self, parameters: Mapping[str, Tensor], beta: float = 0.0) -> None:
        p = {name: value.float() for name, value in parameters.items()}
        self._mean, self._scale, self._readout = p["mean"], p["scale"], p["readout"]
        self.model = EchoState(p["recurrent"], p["inward"], p["bias"], float(p["leak"]))
        self._beta = beta
        self._features = PauseFeatures()

    def begin(self, state: State | None = None) -> State:
        """Begin a segment; the speaker's pace and what was learnt go on, the echo does not."""
        echo = self.model.init_state(1)
        return {
            **merged({"features": self._features.begin(None if state is None else scoped(state, "features"))}),
            "echo": echo,
            "senses": echo.new_zeros(0, echo.shape[1] + 1),
            "asked": torch.zeros(0, dtype=torch.bool),
            "alpha": echo.new_zeros(0),
            "readout": self._readout if state is None else state["readout"],
        }

    def sense(self, features: Tensor, echo: Tensor) -> tuple[Tensor, Tensor]:
        """Let features (B, T, F) echo: (B, T, N + 1), and the echo after them."""
        return self.model.sense((features - self._mean) / self._scale, echo)

    def score(self, observation: Observation, state: State) -> tuple[Tensor, State]:
        """Score all n frames."""
        features, features_state = self._features(observation, scoped(state, "features"))
        heard, echo = self.sense(features[None, : observation.num_heard], state["echo"])
        ahead, _ = self.sense(features[None, observation.num_heard :], echo)
        senses = torch.cat([heard, ahead], 1)[0] if observation.num_ahead else heard[0]
        scores = -self.model.predict(state["readout"], senses)[:, 0]
        after = state | merged({"features": features_state}) | {"echo": echo}
        asked = features[: observation.num_heard, 0] > LOG_ASKED
        return scores, self._learnt(observation, heard[0], asked, after)

    def _learnt(self, observation: Observation, senses: Tensor, asked: Tensor, state: State) -> State:
        """Compare what was foretold in silence two seconds ago with what came since."""
        horizon = round(HORIZON_S / observation.frame_s)
        waiting, asked = torch.cat([state["senses"], senses]), torch.cat([state["asked"], asked])
        alpha = torch.cat([state["alpha"], observation.alpha[: observation.num_heard]])
        gained = torch.cat([alpha.new_zeros(1), alpha.cumsum(0)])
        readout = state["readout"]
        known = asked[: max(0, len(waiting) - horizon)]
        if bool(known.any()):
            came = (gained[horizon + 1 :] - gained[1 : len(known) + 1])[known, None].clamp(max=1.0)
            then = waiting[: len(known)][known]
            readout = self.model.learn(readout, then, came - self.model.predict(readout, then), self._beta)
        recent = {"senses": waiting[-horizon:], "asked": asked[-horizon:], "alpha": alpha[-horizon:]}
        return state | recent | {"readout": readout}


SCORERS: Mapping[EndpointerKind, Callable[[Mapping[str, Tensor]], Scorer]] = {
    EndpointerKind.logistic: Logistic,
    EndpointerKind.forward_model: Foretelling,
    EndpointerKind.spiking: Voting,
}


SILENCES_S = tuple(round(0.2 * step, 1) for step in range(1, 11))
"""Trailing silences, in seconds, to which ``patience`` has the scores that cut as many turns early."""

_UNSURE = 2.0
"""Where a scorer is not sure, so many times the trailing silence ends the segment all the same."""


class Trained:
    """Ends a segment that has text when a scorer is sure enough, or at the limits that hold for all.

    ``trailing_silence_s`` says how patient it is: it cuts speakers off as rarely as that silence would by itself, on
    the turns that it was trained on.

    Args:
        scorer: Who is asked.
        threshold: Score from which the speaker has finished; see `threshold_of`.
        config: The limits.
    """

    def __init__(self, scorer: Scorer, threshold: float, config: EndpointConfig) -> None:
        self._scorer, self._threshold = scorer, threshold
        at_the_latest = {"trailing_silence_s": _UNSURE * config.trailing_silence_s}
        self._limits = TrailingSilence(config.model_copy(update=at_the_latest))

    def begin(self, state: State | None = None) -> State:
        """Begin a segment; what was learnt of the speaker goes on."""
        scorer_state = self._scorer.begin(None if state is None else scoped(state, "scorer"))
        return merged({"scorer": scorer_state, "limits": self._limits.begin()})

    def ends(self, observation: Observation, state: State) -> tuple[bool, State]:
        """Say whether the segment is over."""
        scores, scorer_state = self._scorer.score(observation, scoped(state, "scorer"))
        past_limit, limits_state = self._limits.ends(observation, scoped(state, "limits"))
        sure = observation.has_text and float(scores[-1]) >= self._threshold
        return sure or past_limit, merged({"scorer": scorer_state, "limits": limits_state})


def threshold_of(patience: Tensor, silence_s: float) -> float:
    """Give the score that is as patient as a silence, on a straight line between the two of `SILENCES_S` around it."""
    seconds = torch.tensor(SILENCES_S)
    above = int(torch.searchsorted(seconds, silence_s).clamp(1, len(seconds) - 1))
    slope = (patience[above] - patience[above - 1]) / (seconds[above] - seconds[above - 1])
    return float(patience[above] + slope * (silence_s - seconds[above]))


def make_endpointer(config: EndpointConfig | None = None) -> Endpointer:
    """Make the endpointer that a config names; streams may share it."""
    config = config or EndpointConfig()
    if config.endpointer is EndpointerKind.silence:
        return TrailingSilence(config)
    scorer, threshold = scorers(config.trailing_silence_s)[config.endpointer]
    return Trained(scorer, threshold, config)


def scorers(silence_s: float) -> Mapping[EndpointerKind, tuple[Scorer, float]]:
    """Give every scorer, with the score that is as patient as a silence."""
    trained = {kind: (scorer, threshold_of(patience, silence_s)) for kind, (scorer, patience) in _trained().items()}
    return {EndpointerKind.silence: (Silence(), silence_s), **trained}


@cache
def _trained() -> Mapping[EndpointerKind, tuple[Scorer, Tensor]]:
    """Read the scorers that were trained, and the patience of each."""
    everything = load_file(PARAMETERS_PATH)
    numbers = {kind: scoped(everything, kind) for kind in SCORERS}
    return {kind: (SCORERS[kind](of), of["patience"]) for kind, of in numbers.items()}
