import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifasr.cerebellum.hebbian import HebbianMemory

OPEN = torch.ones(1, dtype=torch.float64)


def fresh(memory, d_key=4, d_value=3):
    return memory.init_weights(1, d_key, d_value, torch.float64)


def test_one_lesson_by_hand():
    memory = HebbianMemory(rate=0.5, max_weight=2.0, decay=0.5)
    weights = torch.tensor([[[2.0], [0.0]]])

    after = memory.write(weights, torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0]]), torch.tensor([0.5]))

    # 2 decays to 1; a quarter of 3 - 3 * 1 / 2 - 1 is written.
    assert after.tolist() == [[[1.125], [0.0]]]


def test_every_key_of_an_orthogonal_set_answers_with_its_value_after_one_lesson():
    memory, keys = HebbianMemory(), torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64))[0]
    values, weights = torch.randn(4, 3, dtype=torch.float64), fresh(HebbianMemory())

    for key, value in zip(keys.split(1), values.split(1), strict=True):
        weights = memory.write(weights, key, value, OPEN)

    torch.testing.assert_close(memory.read(weights.expand(4, -1, -1), keys), values)


def test_a_second_lesson_replaces_the_first():
    memory, key = HebbianMemory(), torch.nn.functional.normalize(torch.randn(1, 4, dtype=torch.float64))
    values = torch.randn(2, 1, 3, dtype=torch.float64)

    weights = memory.write(memory.write(fresh(memory), key, values[0], OPEN), key, values[1], OPEN)

    torch.testing.assert_close(memory.read(weights, key), values[1])


def test_the_gate_scales_what_is_written_and_a_closed_one_leaves_each_memory_to_its_decay():
    memory = HebbianMemory(decay=0.9)
    keys = torch.nn.functional.normalize(torch.randn(3, 4, dtype=torch.float64))
    weights, values = torch.randn(3, 4, 2, dtype=torch.float64), torch.randn(3, 2, dtype=torch.float64)

    after = memory.write(weights, keys, values, torch.tensor([0.0, 0.5, 1.0]))

    torch.testing.assert_close(after[0], 0.9 * weights[0])
    answers, old = memory.read(after, keys), memory.read(0.9 * weights, keys)
    torch.testing.assert_close(answers[1], (old[1] + values[1]) / 2)
    torch.testing.assert_close(answers[2], values[2])


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 1), st.floats(-1.0, 1.0), st.floats(0.0, 1.0)), max_size=12))
def test_no_weight_grows_past_the_bound_with_keys_of_one_entry(lessons):
    memory = HebbianMemory(rate=0.5, max_weight=0.6)
    weights, keys = fresh(memory, 2, 1), torch.eye(2, dtype=torch.float64)

    for key, value, gate in lessons:
        target, opening = torch.full((1, 1), value).double(), torch.full((1,), gate).double()
        weights = memory.write(weights, keys[key : key + 1], target, opening)

        assert float(weights.abs().max()) <= 0.6


def test_what_is_not_refreshed_decays():
    memory, key, nothing = HebbianMemory(decay=0.5), torch.eye(4, dtype=torch.float64)[:1], torch.zeros(1, 3)
    weights = memory.write(fresh(memory), key, torch.ones(1, 3, dtype=torch.float64), OPEN)

    for _ in range(3):
        weights = memory.write(weights, key, nothing, 0 * OPEN)

    assert memory.read(weights, key).tolist() == [[0.125] * 3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"rate": 1.5}, "rate must be"), ({"decay": -0.1}, "decay must be"), ({"max_weight": 0.0}, "max_weight must be")],
)
def test_what_is_out_of_range_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        HebbianMemory(**settings)
