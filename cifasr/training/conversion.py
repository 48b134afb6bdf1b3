"""A dense checkpoint with its feed-forwards made into events: what a run with ``[conversion]`` starts from."""

from collections.abc import Sequence

import torch
from lhotse.cut import Cut
from torch import Tensor, nn

from cifasr.audio.fbank import log_mel
from cifasr.data.batches import load_samples
from cifasr.errors import ConfigError
from cifasr.models.cif_asr import CifAsr
from cifasr.nn.context import Context
from cifasr.spiking import conversion
from cifasr.spiking.activation import EventActivation
from cifasr.training.config import ConversionConfig


@torch.no_grad()
def converted_model(model: CifAsr, cuts: Sequence[Cut], context: Context, config: ConversionConfig) -> CifAsr:
    """Make each dense feed-forward of the encoder spiking, or a thresholded ReLU.

    Each layer is converted by itself, for the inputs that the dense model gives it. All other weights stay.

    Args:
        model: Dense, in evaluation mode.
        cuts: The speech that thresholds are set on.
        context: What an encoder frame sees of it.
        config: What is made.

    Raises:
        ConfigError: The model's feed-forwards are not dense.
        DataError: A cut cannot be loaded.
    """
    if model.config.encoder.feed_forward != "dense":
        got = model.config.encoder.feed_forward
        raise ConfigError(f"conversion: wanted a checkpoint with dense feed-forwards, got {got!r}; leave it out")
    kind = {"feed_forward": config.feed_forward, "spike_steps": config.spike_steps}
    encoder = model.config.encoder.model_copy(update=kind)
    converted = CifAsr(model.config.model_copy(update={"encoder": encoder}), model.tokenizer).eval()
    missing, unexpected = converted.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected
    assert all(name.endswith(".threshold") for name in missing)
    heard = _heard(model, cuts, context)
    for name, module in converted.encoder.named_modules():
        if isinstance(module, EventActivation):
            parent, _, place = name.rpartition(".")
            reader = converted.encoder.get_submodule(f"{parent}.{int(place) + 1}")
            assert isinstance(reader, nn.Linear)
            conversion.convert(module, reader, *heard[name], config.spike_steps)
    return converted


def _heard(model: CifAsr, cuts: Sequence[Cut], context: Context) -> dict[str, tuple[Tensor, Tensor]]:
    """Let a dense encoder hear cuts; returns what each activation heard and answered, (N, d_ff) each, by its name."""
    smooth = {name: module for name, module in model.encoder.named_modules() if isinstance(module, nn.GELU | nn.SiLU)}
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in smooth}
    hooks = [
        module.register_forward_hook(
            lambda _module, x, y, kept=parts[name]: kept.append((x[0].flatten(0, -2), y.flatten(0, -2)))
        )
        for name, module in smooth.items()
    ]
    for cut in cuts:
        feats = log_mel(torch.from_numpy(load_samples(cut)))
        model.encoder(feats[None], torch.tensor([len(feats)]), context)
    for hook in hooks:
        hook.remove()
    return {name: (torch.cat([x for x, _ in kept]), torch.cat([y for _, y in kept])) for name, kept in parts.items()}
