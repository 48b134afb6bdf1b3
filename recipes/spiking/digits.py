"""Spoken digits, told apart by spikes or by a dense twin: one loop, one budget, speakers that were never heard.

``python recipes/spiking/digits.py --neurons lif --seed 0 --out exp/digits.jsonl``; some minutes of one core. Digits are
made (`formants.py`), or, with ``--cuts``, cut out of aligned speech.
"""

import json
import random
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from formants import DIGITS, speak
from rich.progress import track
from speakers import draw_speaker, vary_speaker
from torch import Tensor, nn

from cifasr.audio.augment import mix_noise
from cifasr.audio.fbank import FRAME_MS, NUM_MELS, log_mel
from cifasr.audio.samples import SAMPLE_RATE_HZ, Samples
from cifasr.data.batches import TOKEN_ALIGNMENT, load_cuts, load_samples
from cifasr.lengths import padding_mask
from cifasr.spiking.adaptive_lif import AdaptiveLIF
from cifasr.spiking.lif import LIF, State
from cifasr.spiking.shrinkage import Schedule, ShrinkingNetwork, SpikingStage, synaptic_operations
from cifasr.spiking.sliding_psn import SlidingPSN

STACKED = 3  # frames of the features in one of the network's
WIDTHS = (128, 128, 128)
DECAY = 0.8
EARLY_WEIGHT = 0.3
SNR_DB = (-5.0, 10.0)
BATCH, LEARNING_RATE = 64, 2e-3


class Neurons(StrEnum):
    """What the stages are made of."""

    lif = "lif"
    adaptive = "adaptive"
    psn = "psn"
    dense = "dense"


class Graded(nn.Module):
    """The dense twin of `LIF`: the same leak, and in place of threshold and reset what is above zero."""

    def forward(self, current: Tensor, input_lens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Hear (B, T, D) and give as much."""
        heard = current.masked_fill(padding_mask(input_lens, current.shape[1])[..., None], 0)
        membrane = current.new_zeros(len(current), current.shape[2]) if state is None else state["membrane"]
        membranes = []
        for current_t in heard.unbind(1):
            membrane = DECAY * membrane + (1 - DECAY) * current_t
            membranes.append(membrane)
        out = torch.stack(membranes, 1).relu()
        return out.masked_fill(padding_mask(input_lens, current.shape[1])[..., None], 0), {"membrane": membrane}


class Utterances(NamedTuple):
    """Digits of some speakers: feats (N, T, F), feat_lens (N,), targets (N,)."""

    feats: Tensor
    feat_lens: Tensor
    targets: Tensor

    def rows(self, chosen: Tensor) -> "Utterances":
        """Take some of them, no longer than they are."""
        lens = self.feat_lens[chosen]
        return Utterances(self.feats[chosen, : int(lens.max())], lens, self.targets[chosen])


def made_digits(speakers: Iterable[int], seed: int) -> Utterances:
    """Let each speaker say each digit twice, in noise of a loudness drawn evenly from `SNR_DB`."""
    rng, words = np.random.default_rng(seed), list(DIGITS)
    rows = []
    for number in speakers:
        for target, word in enumerate(words * 2):
            speaker = vary_speaker(draw_speaker(0, number), seed, target)
            samples = np.pad(speak(word, speaker, rng), rng.integers(0, SAMPLE_RATE_HZ // 10, 2))
            noise = rng.standard_normal(len(samples)).astype(np.float32)
            rows.append((mix_noise(samples, noise, rng.uniform(*SNR_DB), rng), target % len(words)))
    return _to_tensors(rows)


def cut_digits(path: Path) -> tuple[Utterances, Utterances]:
    """Cut digits out of aligned cuts: for training, and of every fifth speaker for the test."""
    cuts = list(load_cuts([path]))
    held = set(sorted({cut.supervisions[0].speaker for cut in cuts})[::5])
    rows: tuple[list[tuple[Samples, int]], list[tuple[Samples, int]]] = ([], [])
    words = list(DIGITS)
    for cut in track(cuts, description="read"):
        samples = load_samples(cut)
        for item in cut.supervisions[0].alignment[TOKEN_ALIGNMENT]:
            word = item.symbol.strip().lower()
            if word in DIGITS and item.duration >= 0.1:
                start, stop = (round(second * SAMPLE_RATE_HZ) for second in (item.start, item.end))
                rows[cut.supervisions[0].speaker in held].append((samples[start:stop], words.index(word)))
    return _to_tensors(rows[0]), _to_tensors(rows[1])


def _to_tensors(rows: list[tuple[Samples, int]]) -> Utterances:
    """Compute features, each utterance brought to mean 0 and deviation 1, three frames stacked."""
    feats = []
    for samples, _ in rows:
        mel = log_mel(torch.from_numpy(samples))
        mel = (mel - mel.mean()) / mel.std().clamp(min=1e-3)
        feats.append(mel[: len(mel) // STACKED * STACKED].reshape(-1, STACKED * NUM_MELS))
    return Utterances(
        nn.utils.rnn.pad_sequence(feats, batch_first=True),
        torch.tensor([len(x) for x in feats]),
        torch.tensor([target for _, target in rows]),
    )


def make_network(neurons: Neurons, schedules: list[Schedule]) -> ShrinkingNetwork:
    """Make a network of three stages: the same linear layers and normalisations, whatever the neurons."""

    def layer(width: int) -> nn.Module:
        if neurons is Neurons.adaptive:
            return AdaptiveLIF(width, decay=DECAY, adaptation_decay=0.95, coupling=0.5, jump=2.0)
        if neurons is Neurons.psn:
            return SlidingPSN(8)
        return LIF(DECAY, convention="adds") if neurons is Neurons.lif else Graded()

    widths_in = (STACKED * NUM_MELS, *WIDTHS)
    stages = [SpikingStage(width_in, width, layer(width)) for width_in, width in zip(widths_in, WIDTHS, strict=False)]
    return ShrinkingNetwork(stages, WIDTHS, len(DIGITS), schedules)


def fit(network: ShrinkingNetwork, train: Utterances, *, num_steps: int, seed: int) -> None:
    """Train: each batch under a schedule drawn from the network's; early classifiers count for less than the last."""
    draw, chance = torch.Generator().manual_seed(seed), random.Random(seed)
    optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=0.01)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    for _ in track(range(num_steps), description="train"):
        feats, lens, targets = train.rows(torch.randint(len(train.targets), (BATCH,), generator=draw))
        *early, last = network(feats, lens, chance.choice(network.schedules)).logits
        loss = nn.functional.cross_entropy(last, targets)
        for logits in early:
            loss = loss + EARLY_WEIGHT / len(early) * nn.functional.cross_entropy(logits, targets)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        decay.step()


@torch.no_grad()
def measure(network: ShrinkingNetwork, test: Utterances, schedule: Schedule) -> dict[str, float]:
    """Measure accuracy, and operations a second of audio without the first layer's: additions, or dense products."""
    network.eval()
    right, operations = 0, 0.0
    for chosen in torch.arange(len(test.targets)).split(BATCH):
        feats, lens, targets = test.rows(chosen)
        out = network(feats, lens, schedule)
        right += int((out.logits[-1].argmax(1) == targets).sum())
        operations += float(synaptic_operations(out.spikes, [*WIDTHS[1:], len(DIGITS)]).sum())
    seconds = float(test.feat_lens.sum()) * STACKED * FRAME_MS / 1000
    return {"accuracy": round(right / len(test.targets), 4), "operations_per_s": round(operations / seconds)}


def main(
    out: Annotated[Path, typer.Option(help="File that lines are added to.")],
    neurons: Annotated[Neurons, typer.Option(help="What the stages are made of.")] = Neurons.lif,
    schedules: Annotated[
        str, typer.Option(help="Steps a frame of the stages, of each schedule.")
    ] = "4,2,1 2,2,2 1,1,1",
    cuts: Annotated[
        Path | None, typer.Option(help="Aligned cuts to cut digits out of; without it they are made.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights and batches.")] = 0,
    steps: Annotated[int, typer.Option(help="Batches.")] = 1500,
    speakers: Annotated[int, typer.Option(help="Of made digits, for training; a quarter as many for the test.")] = 100,
) -> None:
    """Train one network, and write a line of JSON for each of its schedules."""
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    if cuts is None:
        train, test = made_digits(range(speakers), 1), made_digits(range(speakers, speakers * 5 // 4), 2)
    else:
        train, test = cut_digits(cuts)
    network = make_network(neurons, [tuple(map(int, schedule.split(","))) for schedule in schedules.split()])
    fit(network, train, num_steps=steps, seed=seed)
    for schedule in network.schedules:
        settings = {"neurons": neurons.value, "seed": seed, "data": "made" if cuts is None else "cuts"}
        line = settings | {"trained": schedules, "schedule": schedule} | measure(network, test, schedule)
        with out.open("a") as file:
            print(json.dumps(line), file=file)


if __name__ == "__main__":
    typer.run(main)
