"""What the fast form may cost: counted in operations and in elements, which no busy machine changes."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from cifasr.ops.cif import cif
from tests.ops.cif.backends import FAST, ON_GPU


class Ledger(TorchDispatchMode):
    """Count operations, note the largest tensor that one made, and the operations that wait for a device."""

    def __init__(self):
        super().__init__()
        self.num_ops, self.largest, self.waits = 0, 0, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.num_ops += 1
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.waits.append(str(func))
        sizes = [x.numel() for x in tree_leaves(result) if isinstance(x, torch.Tensor)]
        self.largest = max([self.largest, *sizes])
        return result


def ledger_of(T, *, backend="vectorized", outlier=0.0, D=8, **options):
    frames = torch.randn(2, T, D, requires_grad=True)
    alpha = torch.full((2, T), 0.15)
    alpha[:, T // 2] += outlier
    alpha.requires_grad_()
    with Ledger() as ledger:
        out = cif(frames, torch.tensor([T, T // 2]), alpha, tail_threshold=0.5, backend=backend, **options)
        torch.autograd.grad(out.acoustic_embeds.sum() + out.alpha_sum.sum(), [frames, alpha])
    return ledger


@pytest.mark.parametrize("options", [{}, {"target_lens": torch.tensor([9, 40])}])
def test_the_number_of_operations_does_not_grow_with_the_frames(options):
    assert ledger_of(50, **options).num_ops == ledger_of(5000, **options).num_ops


def test_no_tensor_is_larger_than_the_frames():
    T, D = 5000, 8

    assert ledger_of(T, D=D).largest <= 2 * T * D  # T * U would be 375 times T a row


def test_one_heavy_frame_costs_its_own_tokens_alone():
    plain, heavy = ledger_of(5000), ledger_of(5000, outlier=100.0)

    assert heavy.num_ops == plain.num_ops
    assert heavy.largest <= plain.largest + 2 * 100 * 8


@pytest.mark.parametrize("backend", [name for name in FAST if ON_GPU not in str(name)])
@pytest.mark.parametrize("options", [{}, {"target_lens": torch.tensor([9, 40])}])
def test_nothing_waits_for_the_device_when_the_width_is_given(backend, options):
    assert ledger_of(30, backend=backend, max_tokens=20, **options).waits == []
    assert ledger_of(30, backend=backend, **options).waits == ["aten._local_scalar_dense.default"]


@pytest.mark.gpu
@pytest.mark.parametrize("backend", ["vectorized", "triton"])
def test_nothing_waits_for_a_gpu_when_the_width_is_given(backend):
    frames = torch.randn(2, 100, 8, device="cuda", requires_grad=True)
    alpha = torch.rand(2, 100, device="cuda", requires_grad=True)
    lens = torch.tensor([100, 50], device="cuda")
    torch.cuda.set_sync_debug_mode("error")

    try:
        out = cif(frames, lens, alpha, max_tokens=60, tail_threshold=0.5, backend=backend)
        out.acoustic_embeds.sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")

    want = cif(frames.cpu(), lens.cpu(), alpha.cpu(), max_tokens=60, tail_threshold=0.5)
    assert out.fire_frames.tolist() == want.fire_frames.tolist()
    torch.testing.assert_close(out.acoustic_embeds.cpu(), want.acoustic_embeds, rtol=1e-5, atol=1e-5)


class Module(torch.nn.Module):
    def forward(self, frames, frame_lens, alpha):
        return tuple(cif(frames, frame_lens, alpha, max_tokens=12, tail_threshold=0.5))


def test_an_exported_graph_equals_eager_on_lengths_it_never_saw():
    example = torch.randn(2, 40, 3), torch.tensor([40, 20]), torch.rand(2, 40)
    num_frames = torch.export.Dim("num_frames", min=2, max=5000)
    graph = torch.export.export(Module(), example, dynamic_shapes=({1: num_frames}, None, {1: num_frames})).module()

    for T, heaviest in [(2, 1.0), (77, 0.3), (1000, 0.3), (60, 0.0)]:  # the last one fires nothing
        inputs = torch.randn(2, T, 3), torch.tensor([T, T // 2]), torch.rand(2, T) * heaviest
        for got, want in zip(graph(*inputs), Module()(*inputs), strict=True):
            assert torch.equal(got, want)
