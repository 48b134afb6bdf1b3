import math

import torch

from cifasr.nn.attention import MultiHeadAttention, rotate
from cifasr.nn.state import merged, scoped


def test_the_first_place_is_not_rotated():
    x = torch.randn(1, 1, 1, 4)

    assert rotate(x, first=0).tolist() == x.tolist()


def test_the_first_pair_turns_by_one_radian_a_place():
    x = torch.tensor([1.0, 0.0]).expand(1, 1, 3, 2)

    y = rotate(x, first=1)

    want = torch.tensor([[math.cos(place), math.sin(place)] for place in (1, 2, 3)])
    torch.testing.assert_close(y[0, 0], want)


def test_rotation_keeps_lengths():
    x = torch.randn(2, 3, 50, 8)

    torch.testing.assert_close(rotate(x, first=900).norm(dim=-1), x.norm(dim=-1))


def test_products_of_rotated_features_depend_on_distances_only():
    queries, keys = torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)

    near = rotate(queries, first=0) @ rotate(keys, first=3).transpose(2, 3)
    far = rotate(queries, first=700) @ rotate(keys, first=703).transpose(2, 3)

    torch.testing.assert_close(near, far, atol=1e-3, rtol=1e-3)


def test_rotary_queries_stand_at_the_last_places_of_the_keys():
    attention = MultiHeadAttention(16, 2, rotary=True)
    x = torch.randn(1, 7, 16)
    keys, values = attention.project_memory(x)

    last_three = attention(x[:, 4:], keys, values)

    torch.testing.assert_close(last_three, attention(x, keys, values)[:, 4:], atol=1e-6, rtol=1e-6)


def test_rotary_attention_forgets_where_its_keys_began():
    attention = MultiHeadAttention(16, 2, rotary=True)
    x = torch.randn(1, 9, 16)
    mask = torch.ones(9, 9, dtype=torch.bool)
    mask[:, :4] = False  # all that is seen begins at place 4
    mask[:4] = True

    within = attention(x, *attention.project_memory(x), mask)[:, 4:]

    alone = attention(x[:, 4:], *attention.project_memory(x[:, 4:]))
    torch.testing.assert_close(within, alone, atol=1e-6, rtol=1e-6)


def test_one_head_of_width_one_is_a_weighted_mean_by_hand():
    attention = MultiHeadAttention(1, 1)
    for projection in (attention.query, attention.key, attention.value, attention.out):
        torch.nn.init.ones_(projection.weight)
        if projection.bias is not None:
            torch.nn.init.zeros_(projection.bias)
    memory = torch.tensor([[[0.0], [math.log(3.0)]]])

    y = attention(torch.ones(1, 1, 1), *attention.project_memory(memory))

    torch.testing.assert_close(y, torch.full((1, 1, 1), 0.75 * math.log(3.0)))  # softmax of (0, ln 3) is (1/4, 3/4)


def test_weights_are_those_that_forward_attends_with():
    attention = MultiHeadAttention(8, 2)
    x, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    mask = torch.ones(2, 1, 3, 5, dtype=torch.bool)
    mask[1, :, :, 3:] = False
    keys, values = attention.project_memory(memory)

    weights = attention.weights(x, keys, [0, 1], mask)

    heads = weights @ values
    torch.testing.assert_close(attention.out(heads.transpose(1, 2).flatten(2)), attention(x, keys, values, mask))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 2, 3))
    assert weights[1, :, :, 3:].tolist() == torch.zeros(2, 3, 2).tolist()


def test_weights_of_some_heads_are_rows_of_all():
    attention = MultiHeadAttention(8, 4)
    x, mask = torch.randn(1, 3, 8), torch.ones(1, 1, 3, 3, dtype=torch.bool)
    keys, _ = attention.project_memory(x)

    some = attention.weights(x, keys, [2, 0], mask)

    assert some.tolist() == attention.weights(x, keys, [0, 1, 2, 3], mask)[:, [2, 0]].tolist()


def test_states_that_were_merged_come_apart_again():
    parts = {"0": {"keys": torch.zeros(1)}, "10": {"keys": torch.ones(1)}}

    state = merged(parts)

    assert sorted(state) == ["0.keys", "10.keys"]
    assert scoped(state, "10") == parts["10"]
    assert scoped(state, "1") == {}
