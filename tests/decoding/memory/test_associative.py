import pytest
import torch

from cifasr.decoding.memory.associative import Boosting, GatedHebbian, Hopfield, Mushroom, NearestNeighbour

ACOUSTIC = [NearestNeighbour, Hopfield, Mushroom, GatedHebbian]


def directions(number, width=96, seed=0):
    lots = torch.randn(number, width, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(lots, dim=1)


@pytest.mark.parametrize("kind", ACOUSTIC)
def test_a_key_scores_one_for_its_own_entry_and_less_for_others(kind):
    memory, keys = kind(), directions(20)

    scores = memory.scores(memory.write(memory.begin(96), keys), keys)

    torch.testing.assert_close(scores.diagonal(), torch.ones(20), rtol=0, atol=0.4)
    assert (scores.argmax(1) == torch.arange(20)).all()
    assert scores[~torch.eye(20, dtype=torch.bool)].max() < 0.6


@pytest.mark.parametrize("kind", ACOUSTIC)
def test_a_damaged_key_is_still_nearest_to_its_own_entry(kind):
    memory, keys = kind(), directions(20)
    damaged = torch.nn.functional.normalize(keys + 0.7 * directions(20, seed=1), dim=1)

    scores = memory.scores(memory.write(memory.begin(96), keys), damaged)

    assert (scores.argmax(1) == torch.arange(20)).all()


@pytest.mark.parametrize("kind", [*ACOUSTIC, Boosting])
def test_what_is_forgotten_leaves_the_order_of_the_rest(kind):
    memory, keys = kind(), directions(6)
    state = memory.write(memory.write(memory.begin(96), keys[:4]), keys[4:])

    kept = memory.keep(state, torch.tensor([0, 3, 5]))

    torch.testing.assert_close(memory.scores(kept, keys), memory.scores(state, keys)[:, [0, 3, 5]], rtol=0, atol=0.3)
    assert memory.scores(state, keys).shape == (6, 6)


def test_boosting_knows_every_key():
    memory = Boosting()

    scores = memory.scores(memory.write(memory.begin(96), directions(2)), directions(3, seed=1))

    assert scores.tolist() == [[1.0, 1.0]] * 3


def test_a_second_lesson_of_the_hebbian_memory_takes_its_key_from_the_first():
    memory = GatedHebbian()
    keys = torch.tensor([[1.0, 0.0], [0.6, 0.8]])

    scores = memory.scores(memory.write(memory.begin(2), keys), keys)

    assert scores.flatten().tolist() == pytest.approx([0.64, 0.6, 0.0, 1.0], abs=1e-6)


def test_a_hopfield_query_between_two_keys_falls_to_the_nearer():
    keys = torch.eye(2)
    query = torch.nn.functional.normalize(torch.tensor([[1.0, 0.7]]), dim=1)

    nearest, hopfield = (m.scores(m.write(m.begin(2), keys), query)[0] for m in (NearestNeighbour(), Hopfield()))

    assert hopfield[1] / hopfield[0] < 0.05 < nearest[1] / nearest[0]
