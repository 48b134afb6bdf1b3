import pytest
import torch
from torch import nn

from cifasr.nn import int8
from cifasr.nn.embedding import TiedEmbedding
from cifasr.nn.int8 import Int8Embedding, Int8Linear, has_int8, round_rows, use_int8

WITH_VNNI = pytest.mark.skipif(not has_int8(), reason="this processor has no VNNI")


@WITH_VNNI
@pytest.mark.parametrize("shape", [(1, 24), (7, 24), (2, 5, 24), (0, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_multiplies_as_the_float_one_but_for_rounding(shape, bias):
    torch.manual_seed(0)
    layer, x = nn.Linear(24, 40, bias=bias), torch.randn(shape)

    output = Int8Linear(layer.weight, layer.bias)(x)

    want = layer(x).detach()
    assert output.shape == want.shape
    assert output.dtype == torch.float32
    if x.numel():
        assert float((output - want).square().mean().sqrt() / want.std()) < 0.02


@WITH_VNNI
def test_a_row_is_multiplied_alike_alone_and_among_others():
    layer, x = Int8Linear(torch.randn(16, 24), torch.randn(16)), torch.randn(9, 24) * torch.logspace(-3, 3, 9)[:, None]

    together = layer(x)

    for row in range(9):
        torch.testing.assert_close(layer(x[row : row + 1])[0], together[row], rtol=0, atol=0)


@WITH_VNNI
def test_loud_inputs_and_weights_do_not_overflow():
    x, weight = torch.full((3, 64), 9.0), torch.ones(8, 64)

    output = Int8Linear(weight, None)(x)

    torch.testing.assert_close(output, torch.full((3, 8), 9.0 * 64), rtol=0.01, atol=0)


def test_rounded_rows_are_within_half_a_step_and_their_largest_is_exact():
    weight = torch.randn(5, 3, 4) * torch.tensor([1e-3, 1.0, 10.0, 0.0, 1e3])[:, None, None]

    scale, rows = round_rows(weight)

    assert rows.dtype == torch.int8
    assert rows.shape == weight.shape
    assert rows.flatten(1).abs().amax(1).tolist() == [127, 127, 127, 0, 127]
    error = (rows * scale[:, None, None] - weight).abs().flatten(1).amax(1)
    assert (error <= 0.5001 * scale).all()


@WITH_VNNI
def test_an_embedding_looks_up_and_scores_with_the_same_rows():
    torch.manual_seed(1)
    embedding = TiedEmbedding(30, 16)

    small = Int8Embedding(embedding)

    tokens = torch.tensor([[3, 0], [29, 3]])
    torch.testing.assert_close(small(tokens), embedding(tokens), atol=0.02, rtol=0)
    x = torch.randn(4, 16)
    assert small.scores(x).argmax(1).tolist() == embedding.scores(x).argmax(1).tolist()


def test_every_linear_layer_and_embedding_is_replaced_whatever_its_depth(tiny_model):
    model = tiny_model("whisper", window_ms=4000, seed=3)

    use_int8(model)

    kinds = [type(module) for module in model.modules()]
    assert not {nn.Linear, TiedEmbedding} & set(kinds)
    assert kinds.count(Int8Embedding) == 1
    assert kinds.count(Int8Linear) > 20


@pytest.mark.parametrize(
    ("flags", "there"), [({"avx2", "avx512_vnni"}, True), ({"avx_vnni"}, True), ({"avx2"}, False), (set(), False)]
)
def test_it_needs_vnni(monkeypatch, flags, there):
    monkeypatch.setattr(int8, "cpu_flags", lambda: flags)

    assert has_int8() is there
