import pytest
import torch

from cifasr.cerebellum.muscle_synergy import GoalMap, compose, factorise, num_synergies, variance_accounted_for


def planted(rank, *, noise=0.0, seed=0):
    """Twelve muscles, 200 steps, ``rank`` synergies, each in few muscles."""
    generator = torch.Generator().manual_seed(seed)
    synergies = torch.rand(12, rank, generator=generator, dtype=torch.float64) ** 4
    played = torch.rand(rank, 200, generator=generator, dtype=torch.float64) ** 4
    activity = synergies @ played
    mean = activity.mean()
    return synergies, (activity + noise * mean * torch.rand(activity.shape, generator=generator)).double()


def test_phasic_synergies_are_played_over_a_tonic_one():
    burst = torch.tensor([[[1.0, 2.0], [0.0, 1.0]], [[0.0, 3.0], [1.0, 1.0]]])

    activity = compose(burst, torch.tensor([2.0, 1.0]), torch.tensor([1, 3]), torch.tensor([0.5, 0.0]), 4)

    assert activity.tolist() == [[0.5, 2.5, 4.5, 0.5], [0.0, 0.0, 2.0, 1.0]]


@pytest.mark.parametrize("rank", [2, 3, 5])
def test_the_planted_number_of_synergies_is_found(rank):
    _, activity = planted(rank)
    values = torch.linalg.svdvals(activity)

    assert num_synergies(activity, wanted=1 - 1e-9) == rank
    assert values[rank] < 1e-12 * values[0]


def test_as_many_synergies_as_were_planted_account_for_the_activity_and_fewer_do_not():
    _, activity = planted(4, noise=0.05)
    generator = torch.Generator().manual_seed(1)

    accounted = []
    for rank in (2, 3, 4):
        synergies, played = factorise(activity, rank, generator)
        accounted.append(variance_accounted_for(activity, synergies @ played))

    assert accounted == sorted(accounted)
    assert accounted[0] < 0.95
    assert accounted[-1] > 0.99


def test_the_planted_synergies_are_found():
    synergies, activity = planted(3)

    found, played = factorise(activity, 3, torch.Generator().manual_seed(2), num_rounds=2000)

    likeness = (synergies / synergies.norm(dim=0)).T @ found
    assert likeness.max(1).values.min() > 0.95
    assert sorted(likeness.argmax(1).tolist()) == [0, 1, 2]
    assert found.min() >= 0
    assert played.min() >= 0
    torch.testing.assert_close(found.norm(dim=0), torch.ones(3, dtype=torch.float64))


def test_nothing_accounts_for_nothing_and_the_same_for_all():
    _, activity = planted(2)

    assert variance_accounted_for(activity, torch.zeros_like(activity)) == 0.0
    assert variance_accounted_for(activity, activity) == 1.0


def test_the_map_is_exact_at_the_goals_it_was_made_from_and_smooth_between():
    goals = torch.cartesian_prod(*[torch.linspace(-1, 1, 5, dtype=torch.float64)] * 2)

    def truth(goal):
        return torch.stack([goal[:, 0].sin() + goal[:, 1], goal[:, 0] * goal[:, 1]], 1)

    between = 0.9 * (2 * torch.rand(50, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 1)

    reach = GoalMap.through(goals, truth(goals), width=0.7)

    torch.testing.assert_close(reach.coefficients(goals), truth(goals), rtol=0, atol=1e-9)
    assert (reach.coefficients(between) - truth(between)).abs().max() < 0.08


def test_muscles_that_push_are_refused():
    with pytest.raises(ValueError, match="activity must be at least 0, got -1"):
        factorise(torch.tensor([[1.0, -1.0]]), 1, torch.Generator())
