"""Draw the pictures of cifasr/spiking/README.md: ``python recipes/spiking/draw.py recipes/spiking/results``."""

import json
from pathlib import Path
from typing import Annotated

import matplotlib as mpl
import numpy as np
import torch
import typer
from formants import speak
from matplotlib.figure import Figure
from speakers import draw_speaker
from torch import Tensor, nn

from cifasr.audio.fbank import NUM_MELS, log_mel
from cifasr.spiking.adaptive_lif import AdaptiveLIF
from cifasr.spiking.biophysics import goldman_mv
from cifasr.spiking.formal import AlphaResponse, FormalNetwork, RefractoryThreshold
from cifasr.spiking.hodgkin_huxley import HodgkinHuxley
from cifasr.spiking.lif import IF, LIF, decay_of, firing_rate_hz
from cifasr.spiking.plasticity import STDP
from cifasr.spiking.population import PopulationEncoder
from cifasr.spiking.shrinkage import ShrinkingNetwork, SpikingStage
from cifasr.spiking.sliding_psn import SlidingPSN
from cifasr.spiking.tdbn import TdBN

mpl.use("Agg")
RESULTS = Path(__file__).resolve().parent / "results"


def goldman() -> Figure:
    """The potential of a squid's membrane as sodium channels open."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    sodium = torch.logspace(-3, 2, 100, dtype=torch.float64)
    permeability = torch.stack([torch.ones_like(sodium), sodium, torch.full_like(sodium, 0.45)], -1)
    outside, inside = (torch.tensor(x, dtype=torch.float64) for x in ([20, 440, 560], [400, 50, 52]))
    potential = goldman_mv(permeability, outside, inside, torch.tensor([1, 1, -1]), temperature_c=20)
    axes.semilogx(sodium, potential)
    for ratio, name in ((0.04, "rest"), (20.0, "peak of a spike")):
        axes.axvline(ratio, color="grey", linestyle=":")
        axes.annotate(name, (ratio, 40), rotation=90, ha="right", va="top", color="grey")
    axes.set(xlabel="permeability of sodium, potassium 1, chloride 0.45", ylabel="membrane, mV")
    return figure


def action_potential() -> Figure:
    """The squid's axon under a step of current: the potential, and the gates that make it."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    above, below = figure.subplots(2, sharex=True)
    step_ms = 0.025
    time_ms = step_ms * torch.arange(1, 1001)
    current = 10.0 * (time_ms >= 2).double()
    with torch.no_grad():
        trace = HodgkinHuxley().run(current[None], step_ms=step_ms)[0]
    above.plot(time_ms, trace[:, 0])
    above.set_ylabel("membrane, mV")
    for place, name in enumerate(("m: sodium opens", "h: sodium is not blocked", "n: potassium opens"), start=1):
        below.plot(time_ms, trace[:, place], label=name)
    below.set(xlabel="ms; 10 uA/cm2 from 2 ms on", ylabel="gate open")
    below.legend(fontsize="small", loc="upper right")
    return figure


def formal() -> Figure:
    """One formal neuron: what it hears, its threshold, and when it fires."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    threshold = RefractoryThreshold(resting=1.0, absolute_ms=3.0, relative=1.5, tau_ms=4.0)
    network = FormalNetwork(
        torch.tensor([[0.0, 1.2], [0.0, 0.0]], dtype=torch.float64), AlphaResponse(tau_ms=4.0), threshold
    )
    spikes = network.run(40.0, given={0: [2.0, 14.0, 15.0, 24.0]})
    times = torch.arange(0, 40, 0.05, dtype=torch.float64)
    potential = [network.potential(t, spikes)[1].item() for t in times.tolist()]
    last = [max((s for s in spikes[1] if s <= t), default=-1e9) for t in times.tolist()]
    axes.plot(times, potential, label="potential")
    axes.plot(times, threshold(times - torch.tensor(last, dtype=torch.float64)), label="threshold")
    axes.eventplot([spikes[0], spikes[1]], lineoffsets=[-0.3, 2.9], linelengths=0.35, colors=["C0", "C3"])
    axes.set(xlabel="ms; below the spikes heard, above those fired", ylim=(-0.6, 3.2))
    axes.legend(fontsize="small")
    return figure


def f_i_curve() -> Figure:
    """The exact rate of a leaky neuron, and the rate of the layer at two steps."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    drive = torch.linspace(0.5, 4, 71, dtype=torch.float64)
    axes.plot(drive, firing_rate_hz(drive, tau_ms=10), color="black", label="exact, eq. 4")
    for step_ms, mark in ((0.2, "."), (2.0, "x")):
        layer = LIF(decay_of(10, step_ms), convention="settles", reset="zero")
        num_steps = round(400 / step_ms)
        spikes, _ = layer(drive[::2].expand(1, num_steps, -1), torch.tensor([num_steps]))
        axes.plot(drive[::2], spikes.sum((0, 1)) / 0.4, mark, label=f"layer, {step_ms} ms a step")
    axes.set(xlabel="current, thresholds", ylabel="Hz")
    axes.legend(fontsize="small")
    return figure


def raster() -> Figure:
    """Four layers that hear the same: a step of current, of another size for each neuron."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    drive = torch.linspace(0.2, 3, 24).expand(1, 120, -1).clone()
    drive[:, :10] = drive[:, 90:] = 0
    decay = decay_of(10, 1)
    layers: dict[str, nn.Module] = {
        "IF, a tenth of the current": IF(),
        "LIF": LIF(decay, convention="settles"),
        "AdaptiveLIF": AdaptiveLIF(24, decay=decay, adaptation_decay=decay_of(60, 1), coupling=0.2, jump=15.0),
        "SlidingPSN, order 8, a third of the current": SlidingPSN(8),
    }
    for axes, (name, layer) in zip(figure.subplots(4, sharex=True), layers.items(), strict=True):
        scale = {"IF": 0.1, "SlidingPSN": 1 / 3}.get(type(layer).__name__, 1)
        spikes: Tensor = layer(scale * drive, torch.tensor([120]))[0]
        axes.imshow(spikes[0].detach().mT, aspect="auto", origin="lower", cmap="Greys", interpolation="nearest")
        axes.set_title(name, fontsize="small", loc="left")
        axes.set_ylabel("neuron")
    axes.set_xlabel("step of 1 ms; current from 10 to 90, more for a higher neuron")
    return figure


def stdp_window() -> Figure:
    """What a pair of spikes changes, by the time between them."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    for sign in (-1, 1):
        lag_ms = sign * torch.linspace(0.01, 80, 200)
        axes.plot(lag_ms, STDP().window(lag_ms), color="C0")
    axes.axhline(0, color="grey", linewidth=0.5)
    axes.set(xlabel="ms from the sender's spike to the receiver's", ylabel="change of weight")
    return figure


def depth() -> Figure:
    """How often the neurons of each of twelve untrained layers fire, with and without normalisation."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    torch.manual_seed(0)
    lens = torch.full((8,), 50)
    linears = [nn.Linear(128, 128) for _ in range(12)]
    for name, layer in (("with TdBN", TdBN(128)), ("without", None)):
        x, rates = (torch.rand(8, 50, 128) < 0.2).float(), []
        for linear in linears:
            y = layer(linear(x), lens) if layer else linear(x)
            x, _ = LIF(0.5, convention="adds")(y, lens)
            rates.append(x.mean().item())
        axes.plot(range(1, 13), rates, "o-", label=name)
    axes.set(xlabel="layer", ylabel="spikes a step", ylim=(-0.02, 0.3))
    axes.legend(fontsize="small")
    return figure


@torch.no_grad()
def population_code() -> Figure:
    """The fields of a population, and its spikes as a number goes up and down."""
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    above, below = figure.subplots(2)
    encoder = PopulationEncoder(1)
    numbers = torch.linspace(-3.5, 3.5, 300)
    above.plot(numbers, encoder.heights(numbers[:, None])[:, 0])
    above.set(xlabel="number", ylabel="height of the field")
    walk = 2.6 * torch.sin(torch.linspace(0, 2 * torch.pi, 40))
    spikes = encoder(walk[:, None]).flatten(0, 1)  # (40 numbers of 5 steps, neurons)
    below.imshow(spikes.mT, aspect="auto", origin="lower", cmap="Greys", interpolation="nearest")
    below.plot(torch.arange(200), ((walk + 3) / 6 * 9).repeat_interleave(5), color="C1", label="the number")
    below.set(xlabel="step, 5 for each number", ylabel="neuron")
    below.legend(fontsize="small", loc="upper right")
    return figure


def learning_curve() -> Figure:
    """The return of a pendulum's actors as they learn, a line a seed, without the last point, of more episodes."""
    figure = Figure(figsize=(6, 3), layout="constrained")
    axes = figure.subplots()
    lines = [json.loads(line) for line in (RESULTS / "pendulum.jsonl").read_text().splitlines()]
    for color, actor in enumerate(("dense", "spiking")):
        for seed in sorted({line["seed"] for line in lines}):
            *curve, _ = ((x["step"], x["mean"]) for x in lines if (x["actor"], x["seed"]) == (actor, seed))
            label = f"{actor} actor" if seed == 0 else None
            axes.plot(*zip(*curve, strict=True), color=f"C{color}", linewidth=1, label=label)
    axes.set(xlabel="step", ylabel="return, mean of 10 episodes")
    axes.legend(fontsize="small", loc="lower right")
    return figure


@torch.no_grad()
def shrinkage() -> Figure:
    """A made "three", and what three untrained stages of 4, 2 and 1 steps a frame make of it."""
    figure = Figure(figsize=(6, 5), layout="constrained")
    torch.manual_seed(0)
    mel = log_mel(torch.from_numpy(speak("three", draw_speaker(0, 1), np.random.default_rng(0))))
    stages = [SpikingStage(width, 32, LIF(0.8, convention="adds")) for width in (NUM_MELS, 32, 32)]
    network = ShrinkingNetwork(stages, (32, 32, 32), 10, [(4, 2, 1)])
    spikes = network(mel[None], torch.tensor([len(mel)]), (4, 2, 1)).spikes
    first, *others = figure.subplots(4)
    first.imshow(mel.mT, aspect="auto", origin="lower", cmap="Greys")
    first.set_ylabel("mel bin")
    for axes, stage, num_steps in zip(others, spikes, (4, 2, 1), strict=True):
        axes.imshow(stage[0].mT, aspect="auto", origin="lower", cmap="Greys", interpolation="nearest")
        axes.set_title(f"steps a frame: {num_steps}, spikes: {int(stage.sum())}", fontsize="small", loc="left")
        axes.set_ylabel("neuron")
    others[-1].set_xlabel("step")
    return figure


def main(out: Annotated[Path, typer.Argument(help="Folder for the pictures.")]) -> None:
    """Draw every picture."""
    out.mkdir(parents=True, exist_ok=True)
    neurons = (goldman, action_potential, formal, f_i_curve, raster, stdp_window, depth)
    for draw in (*neurons, population_code, learning_curve, shrinkage):
        draw().savefig(out / f"{draw.__name__}.png", dpi=90)
        print(out / f"{draw.__name__}.png")


if __name__ == "__main__":
    typer.run(main)
