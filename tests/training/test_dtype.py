import pytest
import torch

from cifasr.training import dtype
from cifasr.training.dtype import autocast, choose_dtype

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("flags", "want"),
    [
        ({"avx2", "avx512f", "avx512_bf16"}, torch.bfloat16),
        ({"amx_bf16", "amx_tile"}, torch.bfloat16),
        ({"avx2", "avx512f"}, torch.float32),
        (set(), torch.float32),
    ],
)
def test_auto_is_what_the_processor_multiplies(monkeypatch, flags, want):
    monkeypatch.setattr(dtype, "cpu_flags", lambda: flags)

    assert choose_dtype("auto", CPU) is want


def test_a_format_that_was_named_is_used_whatever_the_processor(monkeypatch):
    monkeypatch.setattr(dtype, "cpu_flags", lambda: {"avx512_bf16"})

    assert choose_dtype("float32", CPU) is torch.float32
    monkeypatch.setattr(dtype, "cpu_flags", set)
    assert choose_dtype("bfloat16", CPU) is torch.bfloat16


@pytest.mark.parametrize(("choice", "want"), [("bfloat16", torch.bfloat16), ("float32", torch.float32)])
def test_matrix_products_come_in_the_format_chosen(choice, want):
    x = torch.ones(2, 2)

    with autocast(choice, CPU):
        product = x @ x

    assert product.dtype is want
