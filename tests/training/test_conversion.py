import pytest
import torch

from cifasr.cli.train import train
from cifasr.config import load_config
from cifasr.data.batches import load_cuts
from cifasr.errors import ConfigError
from cifasr.models.checkpoint import load_checkpoint
from cifasr.nn.context import Context
from cifasr.spiking.activation import SpikeCount, set_spike_steps
from cifasr.training.config import ConversionConfig, TrainConfig
from cifasr.training.conversion import converted_model
from cifasr.training.journal import read_metrics


@pytest.fixture
def dense(tiny_model):
    return tiny_model("whisper")


def losses(out, name="loss_tokens"):
    return [row[name] for row in read_metrics(out) if name in row]


def test_a_spiking_encoder_learns_from_random_weights_and_runs_at_several_steps(folder, tmp_path):
    overrides = ["model.encoder.feed_forward=spiking", "loss.activity=0.1", "spike_steps=[4, 2, 1]"]
    overrides += ["model.estimator.neuron=lif"]

    train(folder / "recipe.toml", folder, tmp_path / "run", overrides=overrides)

    assert losses(tmp_path / "run")[-1] < 0.95 * losses(tmp_path / "run")[0]
    assert losses(tmp_path / "run", "loss_activity")[-1] > 0
    model = load_checkpoint(tmp_path / "run" / "last.safetensors")
    start = load_checkpoint(tmp_path / "run" / "start.safetensors")
    layers = [name for name, module in model.named_modules() if isinstance(module, SpikeCount)]
    assert len(layers) == 2
    for name in layers:
        assert not torch.equal(model.get_submodule(name).threshold, start.get_submodule(name).threshold)
    feats, answers = torch.randn(1, 64, 80), {}
    for num_steps in (1, 2, 4):
        set_spike_steps(model.encoder, num_steps)
        with torch.no_grad():
            answers[num_steps] = model.encoder(feats, torch.tensor([64]), Context())[0]
    assert not torch.equal(answers[1], answers[2])
    assert not torch.equal(answers[2], answers[4])


@pytest.mark.parametrize("feed_forward", ["relu", "spiking"])
def test_a_dense_checkpoint_becomes_events_with_the_weights_it_had(folder, dense, feed_forward):
    cuts = list(load_cuts([folder / "cuts_train.jsonl.gz"]))

    model = converted_model(dense, cuts[:4], Context(), ConversionConfig(feed_forward=feed_forward, spike_steps=8))

    assert model.config.encoder.feed_forward == feed_forward
    old, new = dense.state_dict(), model.state_dict()
    added = new.keys() - old.keys()
    moved = {name for name in old if not torch.equal(old[name], new[name])}
    assert added == {f"encoder.blocks.{i}.feed_forward.1.threshold" for i in range(2)}
    assert moved == {f"encoder.blocks.{i}.feed_forward.2.bias" for i in range(2)}
    feats, lens = torch.randn(1, 40, 80), torch.tensor([40])
    with torch.no_grad():
        got, want = model.encoder(feats, lens, Context())[0], dense.encoder(feats, lens, Context())[0]
    assert float((got - want).var() / want.var()) < 0.1


def test_what_spikes_already_is_not_converted(dense, folder):
    cuts = list(load_cuts([folder / "cuts_train.jsonl.gz"]))[:2]
    spiking = converted_model(dense, cuts, Context(), ConversionConfig(feed_forward="spiking"))

    with pytest.raises(ConfigError, match="wanted a checkpoint with dense feed-forwards, got 'spiking'"):
        converted_model(spiking, cuts, Context(), ConversionConfig(feed_forward="relu"))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["conversion.feed_forward=spiking"], "conversion: wanted none beside"),
        (["spike_steps=[0]"], "spike_steps.0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, overrides, said):
    with pytest.raises(ConfigError, match=said):
        load_config(TrainConfig, folder / "recipe.toml", overrides)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("loss.activity=0.1", "loss.activity: wanted 0 for a model with dense feed-forwards"),
        ("spike_steps=[4, 2]", "spike_steps: got .*, wanted none"),
    ],
)
def test_a_dense_model_has_no_spikes_to_settle(folder, tmp_path, override, said):
    with pytest.raises(ConfigError, match=said):
        train(folder / "recipe.toml", folder, tmp_path / "run", overrides=[override])
