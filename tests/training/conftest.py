import pytest

from tests.made_speech import TINY_RECIPE, make_cuts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Made speech as cuts, and a recipe that trains on it in seconds."""
    folder = tmp_path_factory.mktemp("made")
    make_cuts(folder, "train", 13)
    make_cuts(folder, "dev", 2)
    (folder / "recipe.toml").write_text(TINY_RECIPE)
    return folder
