import pytest
import torch

from cifasr.cerebellum.mushroom_body import MushroomBody


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(1)


@pytest.fixture(scope="module")
def fly():
    return MushroomBody.grow(torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def odours():
    return torch.randn(200, 50, generator=torch.Generator().manual_seed(0)).abs()


def test_the_loudest_cells_answer():
    body = MushroomBody(torch.tensor([[0, 1], [1, 2], [0, 2]]), num_inputs=3, num_active=1)

    tags = body.tag(torch.tensor([[5.0, 0.0, 4.0], [0.0, 1.0, 2.0]]))

    assert tags.tolist() == [[2], [1]]


def test_every_cell_has_as_many_different_claws(fly):
    assert fly.claws.shape == (2000, 6)
    assert all(len(set(claws)) == 6 for claws in fly.claws.tolist())


def test_five_in_a_hundred_cells_answer_and_unlike_odours_share_no_more_than_chance(fly, odours):
    tags = fly.tag(odours)

    overlap = fly.overlap(tags[:100], tags[100:])
    assert all(len(set(tag)) == 100 for tag in tags.tolist())
    assert float(overlap.mean()) == pytest.approx(0.0492, abs=0.01)


def test_the_overlap_of_unlike_odours_scatters_twice_as_much_as_that_of_cells_drawn_by_lot(fly, generator):
    odours = torch.randn(2000, 50, generator=generator)
    lots = torch.rand(2000, 2000, generator=generator).topk(100).indices

    by_lot, overlap = (fly.overlap(tags[:1000], tags[1000:]) for tags in (lots, fly.tag(odours)))

    assert float(by_lot.std()) == pytest.approx(0.021, abs=0.002)
    assert 1.5 * by_lot.std() < overlap.std() < 2.5 * by_lot.std()


def mean_average_precision(likeness, is_kin):
    """How early kin come when all are ranked by likeness, ties in any order: (Q, N) and (Q, N) bool, to 1 at best."""
    lots = torch.rand(likeness.shape, generator=torch.Generator().manual_seed(0))
    kin = is_kin.gather(1, (likeness.double() + 1e-6 * lots).argsort(1, descending=True)).double()
    precision = kin.cumsum(1) / torch.arange(1, kin.shape[1] + 1)
    return float(((precision * kin).sum(1) / kin.sum(1)).mean())


def test_few_cells_find_kin_far_better_than_as_many_bits_of_random_planes_and_many_hardly(generator):
    odours = torch.randn(100, 1, 50, generator=generator) + 0.5 * torch.randn(100, 20, 50, generator=generator)
    odours, family = odours.view(2000, 50), torch.arange(2000) // 20
    asked = torch.arange(0, 2000, 40)
    others = torch.arange(2000) % 20 != 0

    def found(likeness):
        return mean_average_precision(likeness[:, others], family[asked, None] == family[others])

    gains = []
    for num_cells in (4, 8, 16, 32):
        body = MushroomBody.grow(generator, num_active=num_cells)
        lit = torch.zeros(2000, 2000).scatter_(1, body.tag(odours), 1.0)
        projected = (odours - odours.mean(1, keepdim=True)) @ torch.randn(50, num_cells, generator=generator)
        cells_find, bits_find = found(lit[asked] @ lit.T), found(projected[asked].sign() @ projected.sign().T)
        gains.append(cells_find / bits_find)
    values_find = found(-torch.cdist(projected[asked], projected))

    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 5
    assert 1 < gains[-1] < 1.5
    assert values_find == pytest.approx(cells_find, abs=0.02)  # what 32 planes project, before signs are taken


def test_a_constant_added_to_all_inputs_and_the_other_rows_change_no_tag(fly, odours):
    odours = odours.double()

    tags = fly.tag(odours)

    assert torch.equal(fly.tag(odours - odours.mean(1, keepdim=True)), tags)
    assert torch.equal(fly.tag(odours[7:8])[0], tags[7])


@pytest.mark.parametrize(
    ("noise", "alike", "overlap"),
    [
        (0.06, 0.998, 0.962),
        (0.12, 0.993, 0.923),
        (0.26, 0.966, 0.823),
        (0.69, 0.826, 0.568),
        (1.58, 0.533, 0.268),
        (4.1, 0.233, 0.110),
    ],
)
def test_tags_are_less_alike_than_the_odours_by_the_separation_curve(fly, odours, generator, noise, alike, overlap):
    others = odours + noise * odours.std() * torch.randn(odours.shape, generator=generator)

    likeness = torch.stack([torch.corrcoef(pair)[0, 1] for pair in torch.stack([odours, others], 1)]).mean()
    shared = fly.overlap(fly.tag(odours), fly.tag(others)).mean()

    assert float(likeness) == pytest.approx(alike, abs=0.03)
    assert float(shared) == pytest.approx(overlap, abs=0.04)
    assert shared < likeness


def test_one_lesson_makes_an_odour_known_and_leaves_the_others(fly, odours):
    tags = fly.tag(odours)

    weights = fly.depress(fly.init_weights(1), tags[:1], torch.ones(1, 1))

    response = fly.respond(weights, tags)[:, 0]
    assert response[0] == 0
    assert float(response[1:].mean()) == pytest.approx(0.953, abs=0.01)


def test_one_column_for_fourteen_lessons_is_half_full(fly, odours):
    tags = fly.tag(odours)

    weights = fly.depress(fly.init_weights(1), tags[:14], torch.ones(14, 1))

    assert fly.respond(weights, tags[:14]).max() == 0
    assert float(fly.respond(weights, tags[14:]).mean()) == pytest.approx(0.95**14, abs=0.04)


def test_a_column_for_each_of_many_items_knows_them_again_through_noise(fly, odours, generator):
    items = torch.randn(200, 50, generator=generator).abs()
    weights = fly.depress(fly.init_weights(200), fly.tag(items), torch.eye(200))

    heard = items + 0.3 * torch.randn(items.shape, generator=generator)

    response = fly.respond(weights, fly.tag(heard))
    assert float((response.argmin(1) == torch.arange(200)).float().mean()) > 0.97
    assert float(fly.respond(weights, fly.tag(odours)).min()) > 0.3


def test_dopamine_reaches_its_column_only_and_only_the_active_cells(fly, odours):
    tags, dopamine = fly.tag(odours[:1]), torch.tensor([[0.5, 0.0, 1.0]])

    weights = fly.depress(fly.init_weights(3), tags, dopamine, rate=0.5)

    assert weights[tags[0]].unique(dim=0).tolist() == [[0.75, 1.0, 0.5]]
    assert float((weights == 1).all(1).sum()) == 1900


def test_lessons_may_come_in_any_order_and_at_once(fly, odours, generator):
    tags, dopamine = fly.tag(odours[:5]), torch.rand(5, 2, generator=generator, dtype=torch.float64)
    fresh = fly.init_weights(2, torch.float64)

    together = fly.depress(fresh, tags, dopamine, rate=0.7)

    alone = fresh
    for lesson in (3, 0, 4, 2, 1):
        alone = fly.depress(alone, tags[lesson : lesson + 1], dopamine[lesson : lesson + 1], rate=0.7)
    torch.testing.assert_close(together, alone)


def test_what_is_not_refreshed_recovers(fly, odours):
    tags = fly.tag(odours[:1])
    taught = fly.depress(fly.init_weights(1, torch.float64), tags, torch.ones(1, 1))

    once = fly.recover(taught, time_constant=4.0)
    twice = fly.recover(once, time_constant=4.0)

    assert fly.respond(once, tags).item() == pytest.approx(0.25)
    torch.testing.assert_close(fly.recover(taught, 4.0, num_steps=2), twice)
    assert fly.respond(fly.recover(taught, 4.0, num_steps=200), tags).item() == pytest.approx(1.0)


def test_what_does_not_fit_is_named(generator, fly):
    with pytest.raises(ValueError, match=r"num_claws must be in \[1, 5\], got 6"):
        MushroomBody.grow(generator, num_inputs=5)
    with pytest.raises(ValueError, match=r"num_active must be in \[1, 10\], got 100"):
        MushroomBody.grow(generator, num_cells=10)
    with pytest.raises(ValueError, match=r"inputs must be \(B, 50\), got \(2, 49\)"):
        fly.tag(torch.zeros(2, 49))
    with pytest.raises(ValueError, match="time_constant must be at least 1 step"):
        fly.recover(fly.init_weights(1), 0.5)
