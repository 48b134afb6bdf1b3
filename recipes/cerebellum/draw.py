"""Draw what each member of `cifasr.cerebellum` does: ``python recipes/cerebellum/draw.py``, half a minute.

The pictures lie beside this file, and ``cifasr/cerebellum/README.md`` shows them.
"""

import math
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from turns import Turn, record, room_tone, speech_bounds

from cifasr.audio.samples import SAMPLE_RATE_HZ, read_samples
from cifasr.cerebellum import dopamine, hopfield
from cifasr.cerebellum.cmac import Cmac
from cifasr.cerebellum.forward_model import Correction, EchoState, mackey_glass, ridge
from cifasr.cerebellum.granular import GranularCircuit, Variant
from cifasr.cerebellum.hebbian import HebbianMemory
from cifasr.cerebellum.muscle_synergy import GoalMap, compose, factorise, variance_accounted_for
from cifasr.cerebellum.mushroom_body import MushroomBody
from cifasr.decoding.endpoint_config import EndpointConfig
from cifasr.decoding.endpointers import scorers
from cifasr.decoding.streaming import StreamingOptions
from cifasr.models.pretrained import load_model

HERE = Path(__file__).parent
SAMPLE = HERE.parents[1] / "serving/cifasr_serving/sample/letter.flac"


def draw_cmac(left: Axes, right: Axes) -> None:
    """Draw the answer to one lesson, and a sine while it is learnt."""
    cmac, generator = Cmac.dense((100,), 8), torch.Generator().manual_seed(0)
    cells = torch.arange(100)[:, None]
    lesson = cmac.learn(cmac.init_weights(), torch.tensor([[50]]), torch.ones(1, 1), beta=1.0)
    left.plot(cmac.predict(lesson, cells)[:, 0])
    left.set(title="after one lesson at cell 50", xlabel="cell", ylabel="answer", xlim=(30, 70))
    sine, weights = torch.sin(2 * torch.pi * cells / 100), cmac.init_weights()
    right.plot(sine[:, 0], "k:", label="wanted")
    taught = 0
    for num_lessons in (20, 100, 1000):
        drawn = torch.randint(100, (num_lessons - taught,), generator=generator)
        weights, taught = cmac.learn_in_turn(weights, cells[drawn], sine[drawn], beta=0.5), num_lessons
        right.plot(cmac.predict(weights, cells)[:, 0], label=f"{num_lessons} lessons")
    right.set(title="a sine, learnt", xlabel="cell")
    right.legend()


def draw_mushroom_body(left: Axes, right: Axes) -> None:
    """Draw how alike tags are, and how many lessons one column and a column for each item bear."""
    generator = torch.Generator().manual_seed(0)
    fly = MushroomBody.grow(generator)
    odours = torch.randn(200, 50, generator=generator).abs()
    tags, alike, shared = fly.tag(odours), [], []
    for noise in torch.logspace(-1.7, 1, 20).tolist():
        others = odours + noise * odours.std() * torch.randn(odours.shape, generator=generator)
        pairs = torch.stack([odours, others], 1)
        alike.append(float(torch.stack([torch.corrcoef(pair)[0, 1] for pair in pairs]).mean()))
        shared.append(float(fly.overlap(tags, fly.tag(others)).mean()))
    left.plot([0, 1], [0, 1], "k:", label="as alike as the odours")
    left.plot(alike, shared, "o-", label="tags")
    left.set(title="separation", xlabel="correlation of two odours", ylabel="cells that their tags share")
    left.legend()
    one, each, fresh_one, fresh_each = fly.init_weights(1), fly.init_weights(60), [], []
    for lesson in range(60):
        one = fly.depress(one, tags[lesson : lesson + 1], torch.ones(1, 1))
        each = fly.depress(each, tags[lesson : lesson + 1], torch.eye(60)[lesson : lesson + 1])
        fresh_one.append(float(fly.respond(one, tags[60:]).mean()))
        fresh_each.append(float(fly.respond(each, tags[60:]).min(1).values.mean()))
    right.plot(fresh_each, label="lowest of a column for each")
    right.plot(fresh_one, label="one column for all")
    right.set(title="response to an odour not taught", xlabel="lessons", ylim=(0, 1))
    right.legend()


def draw_granular(left: Axes, right: Axes) -> None:
    """Draw the swing of each variant over time, and its path."""
    one = torch.ones(1, dtype=torch.float64)
    variants: tuple[Variant, ...] = ("as_printed", "symplectic")
    for variant in variants:
        circuit = GranularCircuit(0.1, variant)
        start = circuit.init_state(one, 0 * one)
        granules = circuit.run(start, torch.zeros(1, 200, dtype=torch.float64))[0][0]
        left.plot(granules[:, 0], label=variant)
        right.plot(granules[:, 0], granules[:, 1])
    left.set(title="omega 0.1", xlabel="step", ylabel="position")
    right.set(title="the path", xlabel="position", ylabel="velocity / omega")
    left.legend()


def draw_hopfield(left: Axes, right: Axes) -> None:
    """Draw what the classical network finds again, and what the modern one does."""
    generator, num_neurons = torch.Generator().manual_seed(0), 600
    loads, overlaps = [0.02, 0.05, 0.08, 0.11, 0.13, 0.145, 0.16, 0.18, 0.2, 0.25], []
    for load in loads:
        patterns = 2.0 * torch.randint(2, (round(load * num_neurons), num_neurons), generator=generator) - 1
        found = hopfield.recall(hopfield.store(patterns), patterns[:8], generator, max_sweeps=15)
        overlaps.append(float((found * patterns[:8]).mean()))
    left.plot(loads, overlaps, "o-")
    left.axvline(hopfield.CRITICAL_LOAD, color="k", linestyle=":")
    left.set(
        title=f"classical, {num_neurons} neurons", xlabel="patterns a neuron", ylabel="overlap found", ylim=(0, 1.05)
    )
    patterns = 2.0 * torch.randint(2, (10_000, 64), generator=generator) - 1
    queries = patterns[:200] + 0.5 * torch.randn(200, 64, generator=generator)
    betas = torch.logspace(-1.5, 0.3, 12).tolist()
    found_all = [hopfield.modern_recall(patterns, queries, beta) for beta in betas]
    near = [float(((found - patterns[:200]).norm(dim=1) < 0.4).float().mean()) for found in found_all]
    right.semilogx(betas, near, "o-")
    right.set(title="modern, 10000 patterns of 64", xlabel="beta", ylabel="share found within 5 %")


def draw_dopamine(left: Axes, right: Axes) -> None:
    """Draw rewards of two kinds, and the cells' reversal points."""
    generator = torch.Generator().manual_seed(0)
    second = torch.rand(2000, generator=generator) < 0.5
    noise = torch.randn(2000, generator=generator)
    rewards = torch.where(second, 5 + 0.5 * noise, 1 + 0.2 * noise)
    left.hist(rewards.tolist(), bins=60)
    left.set(title="rewards", xlabel="reward", ylabel="how often")
    taus = torch.linspace(0.02, 0.98, 25)
    rules: tuple[dopamine.Rule, ...] = ("expectile", "quantile")
    for rule in rules:
        start = torch.full((1, len(taus)), 3.0)
        _, learnt = dopamine.learn_in_turn(start, rewards[None], taus, rule=rule, step=0.03)
        right.plot(taus, learnt[0], "o-", label=f"{rule}s")
    right.set(title="what each cell learns to foretell", xlabel="tau: how much it heeds good news", ylabel="reward")
    right.legend()


def draw_hebbian(left: Axes, right: Axes) -> None:
    """Draw what is left of a lesson for several decays, and how the gate lets a value in."""
    key, value, opened = torch.eye(4)[:1], torch.ones(1, 1), torch.ones(1)
    for decay in (1.0, 0.97, 0.9):
        memory = HebbianMemory(decay=decay)
        weights, answers = memory.write(memory.init_weights(1, 4, 1), key, value, opened), []
        for _ in range(40):
            answers.append(float(memory.read(weights, key)))
            weights = memory.write(weights, key, value, 0 * opened)
        left.plot(answers, label=f"decay {decay}")
    left.set(title="after one lesson, the gate closed", xlabel="step", ylabel="answer", ylim=(0, 1.05))
    left.legend()
    for gate, bound in ((1.0, math.inf), (0.3, math.inf), (0.3, 1.0), (0.0, math.inf)):
        memory = HebbianMemory(rate=0.5, max_weight=bound)
        weights, answers = memory.init_weights(1, 4, 1), []
        for _ in range(20):
            answers.append(float(memory.read(weights, key)))
            weights = memory.write(weights, key, value, gate * opened)
        right.plot(answers, label=f"gate {gate:g}" + (f", bound {bound:g}" if bound < math.inf else ""))
    right.set(title="the same lesson over and over", xlabel="lesson", ylim=(-0.05, 1.05))
    right.legend(loc="center right", bbox_to_anchor=(1, 0.25))


def draw_forward_model(left: Axes, right: Axes) -> None:
    """Draw what an echo state foretells 84 steps ahead, and a correction that comes and goes with an error."""
    series = mackey_glass(6400)
    model = EchoState.grow(torch.Generator().manual_seed(0), num_inputs=1, num_neurons=300)
    senses = model.sense(series[None, :, None], model.init_state(1))[0][0]
    readout = ridge(senses[500:5500], series[584:5584, None], 1e-13)
    foretold = (senses[5916:6316] @ readout)[:, 0]
    left.plot(series[6000:6400], "k:", label="what came")
    left.plot(foretold, label="foretold")
    left.set(title="Mackey-Glass, 84 steps ahead", xlabel="step")
    left.legend(loc="lower left")
    correction, plain, corrected = Correction(tolerance=0.05), [], []
    state = correction.init_state(1, 1)
    for time in range(150):
        error = torch.full((1, 1), 0.5 if 20 <= time < 80 else 0.0)
        plain.append(float(error))
        corrected.append(float(error - state.value))
        state = correction.step(state, error - state.value)
    right.plot(plain, "k:", label="error")
    right.plot(corrected, label="error, corrected")
    right.set(title="the climbing fibre's quick correction", xlabel="step")
    right.legend()


def draw_muscle_synergy(left: Axes, right: Axes) -> None:
    """Draw how much few synergies account for, and a map from goals to how strongly they are played."""
    generator, num_muscles = torch.Generator().manual_seed(0), 12
    bursts = torch.rand(4, num_muscles, 1, generator=generator) ** 4 * torch.hann_window(40)
    tonic, movements = 0.02 * torch.ones(num_muscles), []
    for _ in range(12):
        strengths, onsets = torch.rand(4, generator=generator), torch.randint(60, (4,), generator=generator)
        movements.append(compose(bursts, strengths, onsets, tonic, 100))
    activity = torch.cat(movements, 1)
    ranks = range(1, 9)
    found = [factorise(activity, rank, generator, num_rounds=300) for rank in ranks]
    left.plot(ranks, [variance_accounted_for(activity, synergies @ played) for synergies, played in found], "o-")
    left.axhline(0.95, color="k", linestyle=":")
    left.set(title="12 muscles, four phasic synergies and a tonic one", xlabel="synergies", ylabel="VAF")
    goals, between = torch.linspace(-2, 2, 7)[:, None].double(), torch.linspace(-2.5, 2.5, 200)[:, None].double()
    coefficients = torch.cat([goals.sin(), (2 * goals).cos()], 1)
    reach = GoalMap.through(goals, coefficients, width=0.8)
    right.plot(between, reach.coefficients(between))
    right.plot(goals, coefficients, "ko")
    right.set(title="strengths for a goal, exact at the dots", xlabel="goal")


def draw_endpointing(left: Axes, right: Axes) -> None:
    """Draw a turn, its weights and firings, and how each endpointer grows sure that it is over."""
    samples = read_samples(SAMPLE)[: round(8.45 * SAMPLE_RATE_HZ)]
    end = speech_bounds(samples)[1]
    said = np.concatenate([samples[:end], room_tone(samples, 5 * SAMPLE_RATE_HZ // 2, np.random.default_rng(0))])
    turn = Turn("letter", "synthesiser", "alone", noisy=False, samples=said, end_s=end / SAMPLE_RATE_HZ)
    track = record(load_model(), turn, StreamingOptions())
    frame_s = track.observations[0].frame_s
    alpha, fired = (
        torch.cat([getattr(o, name)[: o.num_heard] for o in track.observations]) for name in ("alpha", "firings")
    )
    times = (torch.arange(len(alpha)) + 1) * frame_s
    left.fill_between(times, alpha, step="pre", alpha=0.6)
    left.plot(times[fired > 0], torch.full((int((fired > 0).sum()),), -0.05), "k|")
    left.axvline(turn.end_s, color="k", linestyle=":")
    left.set(title="weights and firings; the last word ends at the dots", xlabel="s", ylabel="weight")
    silence_s = EndpointConfig().trailing_silence_s
    for kind, (scorer, threshold) in scorers(silence_s).items():
        state, scored = scorer.begin(), []
        for observation in track.observations:
            scores, state = scorer.score(observation, state)
            scored.append(scores[: observation.num_heard])
        score = torch.cat(scored)
        low = score[times < turn.end_s].median()
        right.plot(times - turn.end_s, ((score - low) / (threshold - low)).clamp(-0.2, 1.3), label=kind.value)
    right.axhline(1.0, color="k", linestyle=":")
    right.set(
        title=f"how sure; 1 ends it (as patient as {silence_s:g} s)", xlabel="s after the last word", xlim=(-1.5, 2.3)
    )
    right.legend(loc="upper left")


PICTURES: dict[str, Callable[[Axes, Axes], None]] = {
    "cmac": draw_cmac,
    "mushroom_body": draw_mushroom_body,
    "granular": draw_granular,
    "hopfield": draw_hopfield,
    "hebbian": draw_hebbian,
    "dopamine": draw_dopamine,
    "forward_model": draw_forward_model,
    "muscle_synergy": draw_muscle_synergy,
    "endpointing": draw_endpointing,
}


def main() -> None:
    """Draw them all."""
    for name, draw in PICTURES.items():
        figure, axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
        draw(*axes)
        figure.savefig(HERE / f"{name}.png", dpi=75)
        plt.close(figure)
        print(HERE / f"{name}.png")


if __name__ == "__main__":
    main()
