import pytest
import torch

from cifasr.cerebellum.cmac import Cmac

SINE = torch.sin(2 * torch.pi * torch.arange(100, dtype=torch.float64) / 100)[:, None]
EVERY_CELL = torch.arange(100)[:, None]


def taught_sine(beta: float, num_epochs: int, checked: tuple[int, ...] = ()) -> tuple[float, list[float]]:
    """Teach a sine by 100 drawn samples an epoch; returns the last error and those after the epochs ``checked``."""
    cmac, generator = Cmac.dense((100,), 8), torch.Generator().manual_seed(0)
    weights, errors = cmac.init_weights(dtype=torch.float64), []
    for epoch in range(1, num_epochs + 1):
        drawn = torch.randint(100, (100,), generator=generator)
        weights = cmac.learn_in_turn(weights, EVERY_CELL[drawn], SINE[drawn], beta)
        error = float((cmac.predict(weights, EVERY_CELL) - SINE).square().mean().sqrt())
        errors += [error] if epoch in checked else []
    return error, errors


def taught_surface(cmac: Cmac) -> float:
    """Teach sin times cos over a square by 4000 samples; returns the error over all cells."""
    side = torch.arange(64, dtype=torch.float64) / 64
    cells = torch.cartesian_prod(torch.arange(64), torch.arange(64))
    wanted = (torch.sin(2 * torch.pi * side)[:, None] * torch.cos(2 * torch.pi * side)).reshape(-1, 1)
    drawn = torch.randint(64 * 64, (4000,), generator=torch.Generator().manual_seed(0))
    weights = cmac.learn_in_turn(cmac.init_weights(dtype=torch.float64), cells[drawn], wanted[drawn], 0.5)
    return float((cmac.predict(weights, cells) - wanted).square().mean().sqrt())


def test_two_inputs_one_cell_apart_share_all_tiles_but_one():
    tiles = Cmac.dense((9,), 3).tiles(torch.tensor([[1], [2]]))

    assert len(set(tiles[0].tolist()) & set(tiles[1].tolist())) == 2


@pytest.mark.parametrize(("num_cells", "num_tilings", "want"), [((100,), 8, 107), ((64, 64), 16, 391), ((1,), 4, 4)])
def test_a_dense_table_has_a_slot_for_each_tile_and_no_other(num_cells, num_tilings, want):
    cmac = Cmac.dense(num_cells, num_tilings)

    cells = torch.cartesian_prod(*map(torch.arange, num_cells)).view(-1, len(num_cells))

    assert cmac.table_size == want
    assert cmac.slots(cells).unique().tolist() == list(range(want))


def test_one_whole_lesson_answers_with_a_triangle():
    cmac = Cmac.dense((40,), 8)

    weights = cmac.learn(cmac.init_weights(), torch.tensor([[20]]), torch.tensor([[1.0]]), beta=1.0)

    answer = cmac.predict(weights, torch.arange(40)[:, None])[:, 0]
    assert answer.tolist() == [max(0.0, 1 - abs(cell - 20) / 8) for cell in range(40)]


@pytest.mark.parametrize(("beta", "x", "y"), [(0.1, 0, 0), (0.5, 11, 4), (1.0, 3, 2), (1.9, 0, 4)])
def test_a_lesson_leaves_one_less_beta_of_its_error(beta, x, y):
    cmac = Cmac.dense((12, 5), 4)
    cells, before = torch.tensor([[x, y]]), torch.ones(cmac.table_size, 2, dtype=torch.float64)
    wanted = torch.tensor([[7.0, -3.0]], dtype=torch.float64)
    error = wanted - cmac.predict(before, cells)

    after = cmac.learn(before, cells, error, beta)

    torch.testing.assert_close(wanted - cmac.predict(after, cells), (1 - beta) * error)
    torch.testing.assert_close(cmac.learn_in_turn(before, cells, wanted, beta), after)


def test_a_sine_is_learnt_as_fast_as_the_table_says():
    epochs = {1: 0.0362, 2: 0.0190, 5: 0.0116, 10: 0.0062, 50: 0.0011, 200: 0.00032}

    _, errors = taught_sine(0.5, 200, tuple(epochs))

    assert errors == pytest.approx(list(epochs.values()), rel=0.4)


@pytest.mark.parametrize(("beta", "want"), [(1.0, 0.00017), (1.9, 0.00096), (1.99, 0.035)])
def test_the_nearer_the_step_to_two_the_more_is_left_after_200_epochs(beta, want):
    error, _ = taught_sine(beta, 200)

    assert error == pytest.approx(want, rel=0.4)


def test_a_step_above_two_diverges():
    error, _ = taught_sine(2.05, 100)

    assert error > 1


def test_a_lesson_taken_over_and_over_converges_below_two_and_diverges_above():
    cmac, cell, wanted = Cmac.dense((10,), 4), torch.zeros(100, 1, dtype=torch.int64), torch.ones(100, 1)

    error = {
        beta: float(cmac.predict(cmac.learn_in_turn(cmac.init_weights(), cell, wanted, beta), cell[:1]) - 1)
        for beta in (0.1, 1.0, 1.9, 2.05)
    }

    assert [abs(error[beta]) < 1e-4 for beta in (0.1, 1.0, 1.9)] == [True] * 3
    assert error[2.05] == pytest.approx(-(1.05**100), rel=1e-3)


def test_a_hashed_table_learns_the_worse_the_more_tiles_share_a_slot():
    generator = torch.Generator().manual_seed(1)
    dense, sizes = Cmac.dense((64, 64), 16), (4096, 512, 128)
    hashed = [Cmac.hashed((64, 64), 16, size, generator) for size in sizes]
    cells = torch.cartesian_prod(torch.arange(64), torch.arange(64))

    errors = [taught_surface(cmac) for cmac in (dense, *hashed)]
    shared = [cmac.collisions(cells).shared for cmac in (dense, *hashed)]

    assert errors[:2] == pytest.approx([0.0612, 0.0622], rel=0.03)
    assert errors[2:] == pytest.approx([0.0781, 0.184], rel=0.35)  # by what collides, which the hash draws
    assert errors[1] < errors[2] < errors[3]
    assert shared[0] == 0
    assert shared == sorted(shared)
    assert shared[3] > 0.9  # 391 tiles in 128 slots


def test_collisions_within_an_input_lower_the_stable_step():
    dense, one_slot = Cmac.dense((10,), 4), Cmac.hashed((10,), 4, 1, torch.Generator().manual_seed(0))
    every_cell = torch.arange(10)[:, None]

    assert dense.collisions(every_cell) == (13, 13, 0.0, 1, 2.0)
    assert one_slot.collisions(every_cell) == (13, 1, 1.0, 13, 0.5)
    weights = one_slot.init_weights()
    for beta, converges in ((0.4, True), (0.6, False)):
        lesson = one_slot.learn_in_turn(weights, torch.zeros(60, 1).long(), torch.ones(60, 1), beta)
        assert (abs(float(one_slot.predict(lesson, torch.tensor([[0]]))) - 1) < 1e-3) is converges


def test_values_are_cut_into_cells_and_those_outside_go_to_the_edge():
    cells = Cmac.dense((10, 4), 3).quantise(torch.tensor([[-5.0, 0.0], [0.35, 0.5], [1.0, 2.0]]), 0.0, 1.0)

    assert cells.tolist() == [[0, 0], [3, 2], [9, 3]]


def test_what_does_not_fit_is_named():
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match="num_tilings must be positive, got 0"):
        Cmac.dense((10,), 0)
    with pytest.raises(ValueError, match="table_size must be positive, got -1"):
        Cmac.hashed((10,), 2, -1, generator)
    with pytest.raises(ValueError, match="not below 2\\*\\*31 - 1"):
        Cmac.hashed((4096, 4096, 4096), 4, 64, generator)
    with pytest.raises(ValueError, match=r"\(B, 1\) in \[0, \(10,\)\)"):
        Cmac.dense((10,), 2).tiles(torch.tensor([[10]]))
