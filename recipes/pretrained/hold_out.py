"""Set some utterances of Common Voice aside: whole speakers, those with the fewest utterances first, by their names."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from lhotse import CutSet
from lhotse.cut import Cut


def main(
    cuts: Annotated[Path, typer.Argument(help="Cuts of many speakers.")],
    rest: Annotated[Path, typer.Option(help="Where the cuts to train on go.")],
    held: Annotated[Path, typer.Option(help="Where the cuts set aside go.")],
    num: Annotated[int, typer.Option(help="How many to set aside.")] = 100,
) -> None:
    """Write two manifests that share no speaker."""
    everything = list(CutSet.from_file(cuts))
    counts = Counter(_speaker(cut) for cut in everything)
    few = sorted(everything, key=lambda cut: (counts[_speaker(cut)], cut.id))
    aside = few[:num]
    speakers = {_speaker(cut) for cut in aside}
    CutSet.from_cuts(sorted(aside, key=lambda cut: cut.id)).to_file(held)
    CutSet.from_cuts(cut for cut in everything if _speaker(cut) not in speakers).to_file(rest)


def _speaker(cut: Cut) -> str:
    return str(cut.supervisions[0].speaker)


if __name__ == "__main__":
    typer.run(main)
