import copy

import pytest
import torch

from cifasr.config import parse_config
from cifasr.errors import ConfigError
from cifasr.models.cif_asr import CifAsr, CifAsrConfig
from cifasr.text.tokenizer import tokenizer_from_pieces
from cifasr.training.config import TrainConfig
from cifasr.training.examples import make_examples
from cifasr.training.objective import Objective, border_weights
from tests.made_speech import TONES_HZ, make_cut, tiny_recipe

WORDS = [style(word) for word in TONES_HZ for style in (str, str.capitalize)]
UNDISTURBED = {"speeds": [1.0], "level_db": 0.0, "num_freq_masks": 0, "time_width": 0, "silence_probability": 0.0}


def make_model(*, seed=0, words=WORDS, **encoder):
    recipe = tiny_recipe()["model"]
    recipe["encoder"] |= encoder
    torch.manual_seed(seed)
    config = CifAsrConfig.model_validate(recipe)
    return CifAsr(config, tokenizer_from_pieces({f" {word}": 1 for word in words})).eval()


def make_config(**sections):
    return parse_config(TrainConfig, tiny_recipe() | {"teacher": {"checkpoint": "teacher.safetensors"}} | sections)


def test_each_token_has_one_unit_of_weight_spread_over_its_frames():
    ends = torch.tensor([[2, 6, 7], [4, 4, 0]])

    weight = border_weights(ends, torch.tensor([3, 2]), 8)

    # The second token of the second row ends in the frame in which the first does, and shares it.
    assert weight.tolist() == [
        [0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 1.0, 0.0],
        [0.25, 0.25, 0.25, 1.25, 0.0, 0.0, 0.0, 0.0],
    ]


@pytest.mark.parametrize("end", [0, 9])
def test_borders_outside_the_frames_are_drawn_in(end):
    weight = border_weights(torch.tensor([[end]]), torch.tensor([1]), 4)

    assert float(weight.sum()) == pytest.approx(1.0)


def terms_beside(teacher, pupil, config, tmp_path):
    examples = make_examples([make_cut(tmp_path, "made", ["go", "left", "no", "yes"])], pupil, config, step=0)
    with torch.no_grad():
        return Objective(pupil, config.loss, config.teacher, teacher)(examples)


def test_a_pupil_that_hears_what_its_equal_teacher_hears_is_taught_nothing(tmp_path):
    pupil = make_model()
    whole = {"full_context_probability": 1.0, "chunk_ms": [12_800], "delay_probabilities": [1.0], "history_noise": 0.0}
    config = make_config(augment=UNDISTURBED, streaming=whole)

    terms = terms_beside(copy.deepcopy(pupil), pupil, config, tmp_path)

    assert float(terms["taught_frames"].total) == pytest.approx(0.0, abs=1e-6)
    assert float(terms["taught_tokens"].total) == pytest.approx(0.0, abs=1e-4)
    assert int(terms["taught_tokens"].count) == 4  # the "nothing" after the last token is not the teacher's to tell


def test_noise_is_heard_by_the_pupil_and_not_by_the_teacher(tmp_path):
    pupil = make_model()
    loud = make_config(augment=UNDISTURBED | {"num_freq_masks": 8, "freq_width": 40})
    still = make_config(augment=UNDISTURBED)

    far, near = (
        terms_beside(copy.deepcopy(pupil), pupil, config, tmp_path)["taught_frames"].total for config in (loud, still)
    )

    assert float(far) > 2 * float(near)


def test_the_teacher_does_not_learn(tmp_path):
    pupil, teacher = make_model(), make_model(seed=1)
    config = make_config()
    objective = Objective(pupil, config.loss, config.teacher, teacher)
    examples = make_examples([make_cut(tmp_path, "made", ["go", "left"])], pupil, config, step=0)

    sum(term.weight * term.total for term in objective(examples).values()).backward()

    assert all(weight.grad is None for weight in teacher.parameters())
    assert any(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in pupil.encoder.parameters())


@pytest.mark.parametrize(
    ("teacher", "message"),
    [
        ({"words": WORDS[:-1]}, "wanted a model with the tokenizer"),
        ({"d_model": 16}, "wanted an encoder of d_model 32, got 16"),
    ],
)
def test_a_teacher_of_other_shapes_is_refused(teacher, message):
    config = make_config()

    with pytest.raises(ConfigError, match=message):
        Objective(make_model(), config.loss, config.teacher, make_model(**teacher))
