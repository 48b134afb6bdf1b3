import json

import pytest
from typer import Typer
from typer.testing import CliRunner

from cifasr.cli.energy import energy
from cifasr.errors import ConfigError
from cifasr.models.checkpoint import save_checkpoint
from tests.made_speech import make_cuts


@pytest.fixture(scope="module")
def cuts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    make_cuts(folder, "dev", 2)
    return folder / "cuts_dev.jsonl.gz"


def run(*arguments):
    app = Typer()
    app.command()(energy)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def checkpoint(tiny_model, tmp_path):
    def write(feed_forward):
        shape = {"kind": "whisper", "num_layers": 2, "d_model": 16, "num_heads": 2, "d_ff": 32}
        save_checkpoint(
            tiny_model("whisper", encoder=shape | {"feed_forward": feed_forward}), tmp_path / "m.safetensors"
        )
        return tmp_path / "m.safetensors"

    return write


def test_fewer_steps_of_the_same_checkpoint_update_fewer_membranes(checkpoint, cuts):
    path = checkpoint("spiking")
    updates = {}

    for num_steps in (1, 2, 4):
        result = run(path, cuts, "--spike-steps", num_steps)
        assert result.exit_code == 0, result.exception
        row = json.loads(result.stdout.splitlines()[-1])
        built = {line["format"]: line for line in row["per_audio_second"] if line["network"] == "as built"}
        dense = {line["format"]: line for line in row["per_audio_second"] if line["network"] == "dense"}
        assert built["int8"]["energy_uj"] < built["float32"]["energy_uj"]
        assert built["int8"]["macs"] < dense["int8"]["macs"]
        updates[num_steps] = built["float32"]["membrane_updates"]

    assert updates[2] == pytest.approx(2 * updates[1])
    assert updates[4] == pytest.approx(4 * updates[1])


def test_steps_of_a_model_that_does_not_spike_are_refused(checkpoint, cuts):
    result = run(checkpoint("relu"), cuts, "--spike-steps", 2)

    assert isinstance(result.exception, ConfigError)
    assert "spike_steps: got 2, wanted none" in str(result.exception)
