"""The `cifasr` command: a module a subcommand; other packages add theirs by the entry point `cifasr.commands`."""

import os
import sys
from importlib.metadata import entry_points

import typer

from cifasr.cli import bench, memory, prepare
from cifasr.cli.align import align
from cifasr.cli.energy import energy
from cifasr.cli.evaluate import evaluate
from cifasr.cli.lexicon import lexicon
from cifasr.cli.memory import teach
from cifasr.cli.pack import pack
from cifasr.cli.train import train
from cifasr.cli.transcribe import transcribe
from cifasr.cli.warm_start import warm_start
from cifasr.errors import CifasrError

COMMANDS = (warm_start, align, train, evaluate, energy, transcribe, teach, lexicon, pack)
GROUPS = {"prepare": prepare.app, "bench": bench.app, "memory": memory.app}


def build_app() -> typer.Typer:
    """Put the commands together."""
    app = typer.Typer(
        name="cifasr",
        help="Speech recognition with an integrate-and-fire neuron: train, stream, transcribe, evaluate.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    for command in COMMANDS:
        app.command()(command)
    for name, group in GROUPS.items():
        app.add_typer(group, name=name)
    for entry in entry_points(group="cifasr.commands"):
        app.command(entry.name)(entry.load())
    return app


def main() -> None:
    """Run the command line; an error of ours is one line and exit code 2."""
    try:
        build_app()()
    except CifasrError as error:
        command = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
        sys.stderr.write(f"cifasr {command}: {error}\n")
        sys.exit(2)
    except BrokenPipeError:  # a reader such as `head` has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
