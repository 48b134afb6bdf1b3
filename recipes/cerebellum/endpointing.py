"""Train every endpointer on real turns with pauses, and measure how soon each ends them at how many early cuts.

``record`` lets the recogniser hear turns and keeps what an endpointer would see; ``train`` and ``measure`` need only
that.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import typer
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, pad
from turns import Track, make_turns, record

from cifasr.cerebellum import dopamine
from cifasr.cerebellum.forward_model import EchoState, ridge
from cifasr.cli.progress import progress_bar
from cifasr.decoding.endpoint_config import EndpointConfig
from cifasr.decoding.endpointers import (
    HORIZON_S,
    LOG_ASKED,
    PARAMETERS_PATH,
    SILENCES_S,
    Foretelling,
    Logistic,
    Voting,
    threshold_of,
)
from cifasr.decoding.pauses import FEATURES, PauseFeatures
from cifasr.decoding.streaming import StreamingOptions
from cifasr.models.pretrained import load_model
from cifasr.nn.state import merged, scoped
from cifasr.spiking.population import SpikingActor

app = typer.Typer(help=__doc__)
EARLY = (0.02, 0.05)
SEED = 0
_QUIET = math.log(0.1 + 0.1)
"""The feature "silence" after a tenth of a second; before it nobody is asked."""

_CUT = 8.0
"""Seconds of waiting that a speaker would rather bear than be cut off once."""


class Seen(NamedTuple):
    """Turns side by side, as endpointers see them: T frames in K chunks, each with A frames ahead.

    Attributes:
        features: (B, T, F).
        ahead: (B, K, A, F).
        alpha: (B, T).
        text: (B, K) bool, whether anything was written.
        num_chunks: (B,) int64; what is past them is padding.
        ends_s: (B,) float64, the end of the last word.
        frame_s: Of all.
    """

    features: Tensor
    ahead: Tensor
    alpha: Tensor
    text: Tensor
    num_chunks: Tensor
    ends_s: Tensor
    frame_s: float

    @property
    def chunk_frames(self) -> int:
        """Frames of a chunk."""
        return self.features.shape[1] // self.text.shape[1]

    @property
    def heard(self) -> Tensor:
        """Say which frames are no padding: (B, T) bool."""
        return torch.arange(self.features.shape[1]) < self.num_chunks[:, None] * self.chunk_frames

    @property
    def over(self) -> Tensor:
        """Say which frames come after the last word: (B, T) bool."""
        return (torch.arange(self.features.shape[1]) + 1) * self.frame_s >= self.ends_s[:, None]


@app.command("record")
def record_turns(
    cuts: Annotated[Path, typer.Argument(help="Utterances, as `cifasr prepare` writes them.")],
    out: Annotated[Path, typer.Argument(help="Where to keep what was seen.")],
    noises: Annotated[Path, typer.Option(help="Folder of noises.")],
    half: Annotated[int, typer.Option(help="Every second noise, from this one on.")] = 0,
    num: Annotated[int, typer.Option(help="Turns.")] = 240,
    chunk_ms: Annotated[int, typer.Option(help="Chunk.")] = 640,
    seed: Annotated[int, typer.Option(help="Draws turns.")] = 1,
) -> None:
    """Make turns and let the model in the box hear them."""
    torch.set_num_threads(1)
    model, sounds = load_model(), sorted(noises.rglob("*.opus"))[half::2]
    options = StreamingOptions(chunk_ms=chunk_ms)
    torch.save([record(model, turn, options) for turn in make_turns(cuts, num, sounds, seed)], out)


def watch(tracks: Sequence[Track]) -> Seen:
    """Describe what was recorded."""
    pauses, features, ahead = PauseFeatures(), [], []
    for track in tracks:
        state, shown = pauses.begin(), []
        for observation in track.observations:
            part, state = pauses(observation, state)
            shown.append(part)
        num_heard = track.observations[0].num_heard
        features.append(torch.cat([part[:num_heard] for part in shown]))
        ahead.append(torch.stack([part[num_heard:] for part in shown]))
    longest = max(len(part) for part in ahead)

    def padded(parts: Sequence[Tensor], length: int) -> Tensor:
        return torch.stack([pad(p, (0, 0) * (p.dim() - 1) + (0, length - len(p))) for p in parts])

    return Seen(
        features=padded(features, longest * num_heard),
        ahead=padded(ahead, longest),
        alpha=padded([torch.cat([o.alpha[:num_heard] for o in t.observations]) for t in tracks], longest * num_heard),
        text=padded([torch.tensor([o.has_text for o in t.observations]) for t in tracks], longest),
        num_chunks=torch.tensor([len(t.observations) for t in tracks]),
        ends_s=torch.tensor([t.end_s for t in tracks], dtype=torch.float64),
        frame_s=tracks[0].observations[0].frame_s,
    )


def train_logistic(seen: Seen) -> dict[str, Tensor]:
    """Fit the log odds of "over" to frames where the neuron has been quiet for a tenth of a second."""
    asked = seen.heard & (seen.features[..., 0] > _QUIET)
    x, y = seen.features[asked], seen.over[asked].float()
    mean, scale = x.mean(0), x.std(0)
    weights, bias = torch.zeros(x.shape[1], requires_grad=True), torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights, bias], max_iter=60, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        odds = (x - mean) / scale @ weights + bias
        value = binary_cross_entropy_with_logits(odds, y) + 1e-4 * weights.square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    return {"mean": mean, "scale": scale, "weights": weights.detach(), "bias": bias.detach()}


def train_forward_model(seen: Seen) -> dict[str, Tensor]:
    """Fit the readout to what came after each frame from half a second of silence on, counted up to one token."""
    model = EchoState.grow(torch.Generator().manual_seed(SEED), len(FEATURES), 48, leak=0.2, bias_scale=0.5)
    heard = seen.features[seen.heard]
    parameters = {
        "mean": heard.mean(0),
        "scale": 2 * heard.std(0),
        "recurrent": model.recurrent.float(),
        "inward": model.inward.float(),
        "bias": model.bias.float(),
        "leak": torch.tensor(model.leak),
        "readout": model.init_weights(1).float(),
    }
    scorer, horizon = Foretelling(parameters), round(HORIZON_S / seen.frame_s)
    senses, _ = scorer.sense(seen.features, scorer.model.init_state(len(seen.features)))
    gained = pad(seen.alpha, (1, horizon)).double().cumsum(1)  # after a turn nothing comes
    came = (gained[:, horizon + 1 :] - gained[:, 1:-horizon]).clamp(max=1.0)  # (B, T)
    asked = seen.heard & (seen.features[..., 0] > LOG_ASKED)
    readout = ridge(senses[asked].double(), came[asked][:, None], 1e-1)
    return parameters | {"readout": readout.float()}


class Critic(nn.Module):
    """Foretells how rewards of waiting and of ending are distributed: expectiles of both, from a deep network.

    Args:
        num_cells: Expectiles of each action, C.
    """

    def __init__(self, num_cells: int = 9) -> None:
        super().__init__()
        self.taus = torch.linspace(0.1, 0.9, num_cells)
        deep = (nn.Linear(len(FEATURES), 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2 * num_cells))
        self._network = nn.Sequential(*deep)

    def forward(self, obs: Tensor) -> Tensor:
        """Foretell rewards, (B, F) to (B, 2, C): of waiting and of ending."""
        return self._network(obs).unflatten(1, (2, -1))

    def loss(self, values: Tensor, rewards: Tensor) -> Tensor:
        """Hear what came, (B, 2), where ``values`` were foretold: the gradient is what each dopamine cell is told."""
        values = values.flatten(0, 1)
        errors = dopamine.prediction_errors(values.detach(), rewards.flatten())
        wanted = dopamine.learn(values.detach(), errors, self.taus, rule="expectile", step=1.0)
        return 0.5 * (wanted - values).square().sum(1).mean()


def train_spiking(seen: Seen, bar: Progress, *, steps: int, risk: float) -> dict[str, Tensor]:
    """Let an actor play turns: a second of waiting after the last word costs 1, a cut before it ``_CUT``.

    Every fourth frame of silence is a game of its own with one decision. The critic knows how rewards are distributed;
    the actor learns to say how much better ending is than waiting, by a share ``risk`` of the expectiles, the lowest.
    A game is no whole turn: waiting is then worth what this actor will do a moment later, and to one that is not sure
    it is worth nothing.
    """
    torch.manual_seed(SEED)
    heard = seen.features[seen.heard]
    mean, scale = heard.mean(0), heard.std(0)
    actor, critic = SpikingActor(len(FEATURES), 2, hidden=(64,)), Critic()
    actor.encoder.requires_grad_(False)  # a field that is learnt to no width divides by zero
    learning = [p for p in (*actor.parameters(), *critic.parameters()) if p.requires_grad]
    optimizer = torch.optim.Adam(learning, 3e-3)
    asked = (seen.heard & (seen.features[..., 0] > _QUIET))[:, 3::4]  # (B, P)
    obs, over = ((seen.features - mean) / scale)[:, 3::4], seen.over[:, 3::4].float()
    rewards = torch.stack([-over, -_CUT * (1 - over)], 2)  # (B, P, 2)
    num_low = max(1, round(risk * len(critic.taus)))
    for _ in bar.track(range(steps), description="play"):
        game = torch.randperm(len(obs))[:40]
        here, got = obs[game][asked[game]], rewards[game][asked[game]]
        values = critic(here)
        worth = values[..., :num_low].mean(2).detach()
        better = worth[:, 1] - worth[:, 0]
        # In units of its spread and around its mean: rates of spikes hardly reach far.
        better = (better - better.mean()) / better.std()
        waiting, ending = actor(here).unbind(1)
        loss = critic.loss(values, got) + (ending - waiting - better).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weights = {name: value.detach() for name, value in actor.state_dict().items()}
    return {"mean": mean, "scale": scale} | merged({"actor": weights})


def scores(name: str, numbers: dict[str, Tensor], seen: Seen) -> tuple[Tensor, Tensor]:
    """Score turns as the endpointer of that name would: each frame (B, T), and each chunk with what is ahead (B, K)."""
    if name == "silence":
        frames, chunks = (torch.exp(part[..., 0]) - 0.1 for part in (seen.features, seen.ahead[:, :, -1]))
    elif name == "forward_model":
        scorer, num_turns = Foretelling(numbers), len(seen.features)
        senses, _ = scorer.sense(seen.features, scorer.model.init_state(num_turns))
        echo = senses[:, seen.chunk_frames - 1 :: seen.chunk_frames, :-1].flatten(0, 1)
        ahead, _ = scorer.sense(seen.ahead.flatten(0, 1), echo)
        predict = scorer.model.predict
        frames = -predict(numbers["readout"], senses)[..., 0]
        chunks = -predict(numbers["readout"], ahead[:, -1])[:, 0].view(num_turns, -1)
    else:
        judge = Logistic(numbers) if name == "logistic" else Voting(numbers)
        frames, chunks = judge.of_features(seen.features), judge.of_features(seen.ahead[:, :, -1])
    with_text = seen.text.repeat_interleave(seen.chunk_frames, 1) & seen.heard
    return frames.masked_fill(~with_text, -torch.inf), chunks.masked_fill(~seen.text, -torch.inf)


class Curve(NamedTuple):
    """What H thresholds do to B turns: (H,), and (B, H) whether one is cut early and how long after its end it ends."""

    thresholds: Tensor
    early: Tensor
    latency_s: Tensor

    def at(self, rate: float) -> tuple[float, float, float]:
        """Give the lowest threshold that cuts at most such a share early, median and 90th percentile of the rest."""
        place = int((self.early.float().mean(0) <= rate).long().argmax())
        rest = self.latency_s[~self.early[:, place], place]
        return float(self.thresholds[place]), float(rest.quantile(0.5)), float(rest.quantile(0.9))


def curve(scored: Tensor, seen: Seen, *, chunks: bool) -> Curve:
    """Play turns at many thresholds; a turn that is never ended is as late as its audio is long.

    A chunk's decision is made when what lies ahead was heard, and cuts at the chunk's end.
    """
    step_s = seen.frame_s * (seen.chunk_frames if chunks else 1)
    wait_s = seen.frame_s * seen.ahead.shape[2] if chunks else 0.0
    levels = scored[scored.isfinite()].sort().values
    thresholds = pad(levels[torch.linspace(0, len(levels) - 1, 1500).long()].unique(), (0, 1), value=torch.inf)
    reached = torch.searchsorted(
        scored.cummax(1).values.contiguous(), thresholds.expand(len(scored), -1).contiguous()
    )  # (B, H)
    last = seen.num_chunks[:, None] * (1 if chunks else seen.chunk_frames) - 1
    cut_s = (reached.minimum(last) + 1).double() * step_s
    early = (cut_s < seen.ends_s[:, None]) & (reached <= last)
    return Curve(thresholds, early, cut_s + wait_s - seen.ends_s[:, None])


@app.command()
def train(
    tracks: Annotated[Path, typer.Argument(help="What `record` kept of training speakers.")],
    out: Annotated[Path, typer.Option(help="Where the numbers go.")] = PARAMETERS_PATH,
    steps: Annotated[int, typer.Option(help="How often the spiking actor plays 40 turns.")] = 1000,
    risk: Annotated[float, typer.Option(help="Share of the lowest expectiles that the actor minds.")] = 0.5,
) -> None:
    """Train all, and find for each the scores that cut as many of these turns early as silences of some lengths."""
    torch.set_num_threads(1)
    seen = watch(torch.load(tracks, weights_only=False))
    trained = {"logistic": train_logistic(seen), "forward_model": train_forward_model(seen)}
    with progress_bar() as bar:
        trained["spiking"] = train_spiking(seen, bar, steps=steps, risk=risk)
    timer = curve(scores("silence", {}, seen)[1], seen, chunks=True)
    places = torch.searchsorted(timer.thresholds, torch.tensor(SILENCES_S)).clamp(max=len(timer.thresholds) - 1)
    rates = timer.early.float().mean(0)[places].tolist()
    for name, numbers in trained.items():
        played = curve(scores(name, numbers, seen)[1], seen, chunks=True)
        numbers["patience"] = torch.tensor([played.at(rate)[0] for rate in rates])
        _, median_s, p90_s = played.at(EARLY[0])
        about = {
            "endpointer": name,
            "turns": len(seen.ends_s),
            "median_s": round(median_s, 2),
            "p90_s": round(p90_s, 2),
        }
        print(json.dumps(about | {"numbers": sum(value.numel() for value in numbers.values())}))
    save_file({name: value.contiguous() for name, value in merged(trained).items()}, out)


@app.command()
def measure(
    tracks: Annotated[Path, typer.Argument(help="What `record` kept of speakers who were not trained on.")],
    parameters: Annotated[Path, typer.Option(help="What `train` wrote.")] = PARAMETERS_PATH,
    kind: Annotated[str | None, typer.Option(help="Only turns that are alone, or joined.")] = None,
) -> None:
    """Print a line for each endpointer: seconds after the last word, at equal rates of early cuts."""
    torch.set_num_threads(1)
    recorded: list[Track] = torch.load(tracks, weights_only=False)
    seen = watch([track for track in recorded if kind in (None, track.kind)])
    numbers = load_file(parameters)
    for name in ("silence", *sorted({key.split(".")[0] for key in numbers}, reverse=True)):
        row: dict[str, object] = {"endpointer": name, "turns": len(seen.ends_s)}
        for grain, scored in zip(("frame", "chunk"), scores(name, scoped(numbers, name), seen), strict=True):
            played = curve(scored, seen, chunks=grain == "chunk")
            for rate in EARLY:
                threshold, median_s, p90_s = played.at(rate)
                row[f"{grain}, {rate:.0%}"] = [round(median_s, 2), round(p90_s, 2), round(threshold, 3)]
        # As it ships, with chunks: as patient as the default silence was on the training turns.
        default_s = EndpointConfig().trailing_silence_s
        wanted = default_s if name == "silence" else threshold_of(numbers[f"{name}.patience"], default_s)
        place = min(int(torch.searchsorted(played.thresholds, wanted)), len(played.thresholds) - 1)
        rest = played.latency_s[~played.early[:, place], place]
        early = float(played.early[:, place].float().mean())
        row["shipped"] = [round(v, 3) for v in (early, float(rest.quantile(0.5)), float(rest.quantile(0.9)))]
        print(json.dumps(row))


if __name__ == "__main__":
    app()
