"""`cifasr train`: a recipe, cuts and a folder; run again to go on."""

from pathlib import Path
from typing import Annotated

import torch
import typer
from lhotse.cut import Cut

from cifasr.cli.output import err_console, print_json
from cifasr.config import load_config
from cifasr.data.batches import load_cuts, written_style
from cifasr.errors import ConfigError
from cifasr.models.checkpoint import load_checkpoint
from cifasr.models.cif_asr import CifAsr
from cifasr.text.tokenizer import train_tokenizer
from cifasr.training.checkpointing import open_run
from cifasr.training.config import TrainConfig
from cifasr.training.conversion import converted_model
from cifasr.training.distributed import joined_processes
from cifasr.training.loop import Trainer
from cifasr.training.validation import choose_cuts


def train(
    config: Annotated[Path, typer.Argument(help="Recipe: a TOML file with the differences from the defaults.")],
    cuts: Annotated[Path, typer.Option(help="Folder of cuts_SPLIT.jsonl.gz, as `cifasr prepare` writes it.")],
    out: Annotated[Path, typer.Option(help="Folder of the run. If a run is in it, it goes on.")],
    init: Annotated[
        Path | None, typer.Option(help="Checkpoint to start from; without, the recipe has a [model].")
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, such as optim.encoder_lr=1e-5.")
    ] = None,
) -> None:
    """Train a model; under torchrun with every process."""
    recipe = load_config(TrainConfig, config, overrides or ())

    def start() -> CifAsr:
        torch.manual_seed(recipe.seed)
        if init is not None:
            if recipe.model is not None:
                raise ConfigError("model: wanted nothing in a recipe that starts from a checkpoint (--init)")
            model = load_checkpoint(init)
            return model if recipe.conversion is None else _converted(model, recipe, list(train_cuts))
        if recipe.conversion is not None:
            raise ConfigError("conversion: wanted a checkpoint to convert (--init)")
        if recipe.model is None:
            raise ConfigError("model: wanted a [model] table in the recipe, or a checkpoint to start from (--init)")
        supervisions = (s for cut in train_cuts for s in cut.supervisions if s.text)
        return CifAsr(recipe.model, train_tokenizer((written_style(s.text) for s in supervisions), recipe.vocab_size))

    train_cuts = load_cuts(_paths(cuts, recipe.data.train))
    dev_cuts = list(load_cuts(_paths(cuts, recipe.data.dev)))
    with joined_processes() as processes:
        with processes.first_before_others():
            model = open_run(out, recipe, start, write=processes.is_first)
        best = Trainer(model, recipe, train_cuts, dev_cuts, out, processes).train()
        if processes.is_first:
            print_json({"checkpoint": str(out / "best.safetensors"), "dev_wer": round(best, 4)})


def _converted(model: CifAsr, recipe: TrainConfig, train_cuts: list[Cut]) -> CifAsr:
    assert recipe.conversion is not None
    kind, num_utterances = recipe.conversion.feed_forward, recipe.conversion.num_utterances
    err_console.print(f"feed-forwards made {kind}: thresholds set on {num_utterances} utterances of the training cuts")
    context = model.context(recipe.validation.chunk_ms, recipe.validation.left_context_ms)
    return converted_model(model, choose_cuts(train_cuts, num_utterances), context, recipe.conversion)


def _paths(folder: Path, splits: tuple[str, ...]) -> list[Path]:
    return [folder / f"cuts_{split}.jsonl.gz" for split in splits]
