"""Average the weights of two models of one shape, such as a run's start and its end (arXiv:2109.01903)."""

from pathlib import Path
from typing import Annotated

import typer

from cifasr.models.checkpoint import load_checkpoint, save_checkpoint


def main(
    first: Annotated[Path, typer.Argument(help="Checkpoint.")],
    second: Annotated[Path, typer.Argument(help="Checkpoint with the same shapes and tokenizer.")],
    out: Annotated[Path, typer.Option(help="Checkpoint to write.")],
    share: Annotated[float, typer.Option(help="Of the second, 0 to 1.")] = 0.5,
) -> None:
    """Write the average."""
    model, other = load_checkpoint(first), load_checkpoint(second)
    if (model.config, model.tokenizer.model) != (other.config, other.tokenizer.model):
        raise typer.BadParameter(f"{second}: wanted a model with the shapes and the tokenizer of {first}")
    weights = other.state_dict()
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.lerp_(weights[name], share)
    save_checkpoint(model, out)


if __name__ == "__main__":
    typer.run(main)
