import pytest
import torch

from cifasr.models.cif_asr import CifAsr, CifAsrConfig
from cifasr.text.tokenizer import tokenizer_from_pieces
from cifasr.training.config import OptimConfig
from cifasr.training.optim import build_optimizer, clip_gradients, learning_rate_factor, part_of
from tests.made_speech import tiny_recipe


@pytest.fixture
def model():
    config = CifAsrConfig.model_validate(tiny_recipe()["model"] | {"ctc": True})
    return CifAsr(config, tokenizer_from_pieces({" go": 2, " no": 1}))


def test_the_rate_warms_up_stays_and_falls_to_zero():
    config = OptimConfig(num_steps=20, warmup_steps=4, flat_fraction=0.5)

    factors = [learning_rate_factor(step, config) for step in range(21)]

    assert factors[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert set(factors[4:11]) == {1.0}
    assert factors[15] == pytest.approx(0.5)
    assert factors[19] == pytest.approx(0.0245, abs=1e-4)  # (1 + cos(0.9 pi)) / 2
    assert factors[20] == 0.0


def test_the_cosine_begins_after_the_warm_up_where_that_is_longer():
    config = OptimConfig(num_steps=10, warmup_steps=6, flat_fraction=0.0)

    assert [learning_rate_factor(step, config) for step in (5, 6, 8)] == pytest.approx([1.0, 1.0, 0.5])


@pytest.mark.parametrize("num_steps", [1, 3])
def test_a_run_shorter_than_its_warm_up_has_rates_too(num_steps):
    config = OptimConfig(num_steps=num_steps, warmup_steps=10)

    assert [learning_rate_factor(step, config) for step in range(num_steps)] == [0.1, 0.2, 0.3][:num_steps]


def test_without_warm_up_the_first_step_has_the_whole_rate():
    assert learning_rate_factor(0, OptimConfig(num_steps=5, warmup_steps=0)) == 1.0


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("encoder.blocks.0.norm.weight", "encoder"),
        ("decoder.embedding.weight", "decoder"),
        ("decoder.fired_projection.weight", "new"),
        ("estimator.head.bias", "new"),
        ("ctc_head.weight", "new"),
    ],
)
def test_each_parameter_is_of_one_part(name, part):
    assert part_of(name) == part


def test_every_parameter_is_in_one_group_with_the_rate_of_its_part(model):
    config = OptimConfig(num_steps=1, encoder_lr=1e-5, decoder_lr=2e-5, new_lr=3e-5)

    groups = build_optimizer(model, config).param_groups

    assert [(group["name"], group["lr"]) for group in groups] == [("encoder", 1e-5), ("decoder", 2e-5), ("new", 3e-5)]
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in model.parameters()}


def test_gradients_are_clipped_by_the_norm_of_their_own_group(model):
    optimizer = build_optimizer(model, OptimConfig(num_steps=1))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    model.encoder.subsample.project.bias.grad[:2] = torch.tensor([0.3, 0.4])
    model.estimator.head.bias.grad[0] = 50.0

    norms = clip_gradients(optimizer, 1.0)

    assert norms == pytest.approx({"encoder": 0.5, "decoder": 0.0, "new": 50.0})
    assert model.encoder.subsample.project.bias.grad[:2].tolist() == pytest.approx([0.3, 0.4])
    assert model.estimator.head.bias.grad.tolist() == pytest.approx([1.0])


def test_a_group_without_gradients_has_a_norm_of_zero(model):
    norms = clip_gradients(build_optimizer(model, OptimConfig(num_steps=1)), 1.0)

    assert norms == {"encoder": 0.0, "decoder": 0.0, "new": 0.0}
