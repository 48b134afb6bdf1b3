"""Draw the neuron at work, for the README: ``python -m cifasr.ops.cif.draw cifasr/ops/neuron.png``.

What is drawn is what ``cif`` answers: frames are unit vectors, so that an embedding *is* the weights of its frames.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cifasr.ops.cif.interface import cif

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ALPHA = (0.15, 0.35, 0.3, 0.45, 0.2, 0.1, 0.55, 0.5, 0.3, 0.15, 0.35, 0.5)
COLORS = ("#0072b2", "#d55e00", "#009e73", "#9a9a9a")  # one a token; grey for the remainder
INK = "#333333"


def draw(path: Path) -> None:
    """Write the figure: the weights, each cut where a token ends, and the membrane that they charge.

    Args:
        path: A file whose ending names the format.
    """
    from matplotlib.figure import Figure

    alpha = torch.tensor([ALPHA])
    out = cif(torch.eye(len(ALPHA))[None], torch.tensor([len(ALPHA)]), alpha, tail_threshold=2**-24)
    shares, fire_frames = out.acoustic_embeds[0], out.fire_frames[0].tolist()[:-1]
    figure = Figure(figsize=(8.5, 5.2), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    _draw_weights(above, shares)
    _draw_membrane(below, shares, fire_frames)
    figure.savefig(path, dpi=100, metadata={"Software": None})


def _draw_weights(axes: "Axes", shares: Tensor) -> None:
    """Stack each frame's weight out of what its tokens take of it."""
    frames, bottom = range(shares.shape[1]), torch.zeros(shares.shape[1])
    for share, color in zip(shares, COLORS, strict=True):
        axes.bar(frames, share.tolist(), bottom=bottom.tolist(), color=color, width=0.8)
        bottom = bottom + share
    axes.set_ylabel("weight alpha[t]")
    axes.set_ylim(0, 0.75)
    axes.set_title("a frame on a border is cut in two: the token that ends takes what it lacks", fontsize=10, color=INK)
    _tidy(axes)


def _draw_membrane(axes: "Axes", shares: Tensor, fire_frames: list[int]) -> None:
    """Charge the membrane frame by frame; where it reaches the threshold it fires, and keeps what is left over."""
    for token, share in enumerate(shares):
        touched = share.nonzero().flatten().tolist()
        charge = share.cumsum(0)
        times = [touched[0] - 0.5, *[t + 0.5 for t in touched]]
        levels = [0.0, *charge[touched].tolist()]
        if token > 0:  # the border frame charges this token after it has fired the one before
            times[0] += 1 - float(share[touched[0]]) / ALPHA[touched[0]]
        if token < len(fire_frames):
            times[-1] -= 1 - float(share[touched[-1]]) / ALPHA[touched[-1]]
            axes.plot([times[-1]] * 2, [1, 0], color=COLORS[token], linestyle=":")
            axes.plot(times[-1], 1, marker="*", markersize=15, color=COLORS[token])
        axes.plot(times, levels, color=COLORS[token], linewidth=2)
        axes.fill_between(times, levels, color=COLORS[token], alpha=0.12, linewidth=0)
        terms = " + ".join(f"{share[t]:.2f} h[{t}]" for t in touched)
        name = f"embed[{token}]" if token < len(fire_frames) else "left over"
        axes.text(-0.4, 1.72 - 0.16 * token, f"{name} = {terms}", color=COLORS[token], fontsize=9)
    axes.axhline(1, color=INK, linewidth=1, linestyle="--")
    axes.text(len(ALPHA) - 0.4, 1.03, "threshold", ha="right", fontsize=9, color=INK)
    axes.set_ylim(0, 1.9)
    axes.set_yticks([0, 0.5, 1])
    axes.set_ylabel("membrane")
    axes.set_xlabel("frame t; a star is a firing")
    axes.set_xticks(range(len(ALPHA)))
    _tidy(axes)


def _tidy(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=INK)


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
