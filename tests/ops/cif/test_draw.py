from pathlib import Path

from cifasr.ops import cif
from cifasr.ops.cif.draw import draw

PNG = b"\x89PNG\r\n\x1a\n"


def test_the_figure_of_the_readme_is_drawn_small(tmp_path):
    draw(tmp_path / "neuron.png")

    drawn = (tmp_path / "neuron.png").read_bytes()
    kept = (Path(cif.__file__).parents[1] / "neuron.png").read_bytes()
    assert drawn.startswith(PNG)
    assert kept.startswith(PNG)
    assert max(len(drawn), len(kept)) < 100_000
