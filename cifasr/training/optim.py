"""Which weights learn how fast: AdamW with one group a part, and the schedule."""

import math

import torch
from torch import nn

from cifasr.models.cif_asr import CifAsr
from cifasr.training.config import OptimConfig


def build_optimizer(model: CifAsr, config: OptimConfig) -> torch.optim.AdamW:
    """Make the optimizer: one group for the encoder, one for the decoder, one for what is new."""
    parts = {"encoder": config.encoder_lr, "decoder": config.decoder_lr, "new": config.new_lr}
    groups: dict[str, list[nn.Parameter]] = {name: [] for name in parts}
    for name, parameter in model.named_parameters():
        groups[part_of(name)].append(parameter)
    return torch.optim.AdamW(
        [{"params": groups[name], "lr": lr, "name": name} for name, lr in parts.items() if groups[name]],
        betas=(0.9, 0.98),
        weight_decay=config.weight_decay,
    )


def part_of(parameter_name: str) -> str:
    """Say which group a parameter learns with."""
    if parameter_name.startswith("encoder.") and not parameter_name.endswith(".threshold"):
        return "encoder"
    if parameter_name.startswith("decoder.") and not parameter_name.startswith("decoder.fired_projection"):
        return "decoder"
    return "new"


def learning_rate_factor(step: int, config: OptimConfig) -> float:
    """Say what share of its learning rate each group has: warm-up, flat, then a cosine to zero.

    Args:
        step: 0 for the first.
        config: Steps and fractions.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    flat_until = max(config.warmup_steps, int(config.flat_fraction * config.num_steps))
    if step < flat_until:
        return 1.0
    progress = (step - flat_until) / max(1, config.num_steps - flat_until)
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def clip_gradients(optimizer: torch.optim.Optimizer, max_norm: float) -> dict[str, float]:
    """Clip each group's gradient by its own norm, so that a new part's noise does not still the old ones.

    Returns:
        The norm of each group before.
    """
    return {
        group["name"]: float(torch.nn.utils.clip_grad_norm_(group["params"], max_norm))
        for group in optimizer.param_groups
    }
