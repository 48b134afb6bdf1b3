"""What only the Triton kernels can get wrong: borders of blocks, memory not theirs, what the host sees of them."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from cifasr.ops import cif as operator
from cifasr.ops.cif.membrane import (
    UNITS_PER_TOKEN,
    count_tokens,
    integrate,
    scale_to_targets,
    tail_units,
    units_to_weight,
)
from tests.ops.cif.backends import ON_GPU, TRITON, cif

pytestmark = pytest.mark.parametrize("backend", TRITON)


def fenced(x):
    """Give ``x`` in memory whose neighbours hold NaN."""
    fence = torch.full((512,), torch.nan, dtype=x.dtype)
    return torch.cat([fence, x.flatten(), fence])[512:-512].view_as(x)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("threshold", [1.0, 0.7])
@pytest.mark.parametrize("kind", ["float32", "ties", "bfloat16"])
def test_a_thousand_random_rows_fire_where_the_reference_fires(backend, kind, threshold, scaled):
    B, T = 84, 25  # 12 times 84: a thousand rows
    alpha = torch.rand(B, T) * torch.tensor([0.2, 1.0, 4.0]).repeat(B // 3)[:, None]
    alpha = (alpha * 8).round() / 8 if kind == "ties" else alpha.to(getattr(torch, kind))
    lens = torch.randint(0, T + 1, (B,))
    target_lens = torch.randint(0, 30, (B,)) * (lens > 0) if scaled else None
    tail_threshold = threshold / 2

    got = firings(backend, alpha, lens, target_lens, threshold, tail_threshold)

    want = cif(
        torch.ones(B, T, 1),
        lens,
        alpha,
        threshold=threshold,
        target_lens=target_lens,
        tail_threshold=tail_threshold,
        backend="reference",
    )
    assert got == [want.token_lens.tolist(), want.fire_frames.tolist(), want.remainder.tolist()]


def firings(backend, alpha, lens, target_lens, threshold, tail_threshold):
    """Run the kernels that decide on firings, and leave the sums of frames, which take the interpreter's time."""
    from cifasr.ops.cif import kernel  # triton is optional

    alpha, lens, target_lens = (to_device(x, backend) for x in (alpha, lens, target_lens))
    tail = tail_units(tail_threshold, threshold)
    position, token_lens, remainder = kernel.positions(alpha, lens, target_lens, threshold, tail, 2**31 - 1)
    fire_frames = kernel.fire_frames(position, lens, token_lens, int(token_lens.max()))
    return [token_lens.tolist(), fire_frames.tolist(), remainder.tolist()]


def to_device(x, backend):
    return x.cuda() if x is not None and backend == ON_GPU else x


@pytest.mark.parametrize("T", [1, 1023, 1024, 1025, 2100, 20_000])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_scan_is_exact_past_every_block(backend, T, scaled):
    from cifasr.ops.cif import kernel  # triton is optional

    alpha, lens = torch.rand(3, T) * torch.tensor([[0.3], [0.0], [100.0]]), torch.tensor([T, T - 1, T // 2 + 1])
    target_lens = torch.tensor([T // 7, min(1, T - 1), 3 * T + 1]) if scaled else None
    inputs = [to_device(x, backend) for x in (alpha, lens, target_lens)]

    position, token_lens, remainder = kernel.positions(*inputs, 0.3, UNITS_PER_TOKEN // 2, 4 * T)

    want = integrate(alpha, lens, 0.3)
    want = scale_to_targets(want, lens, target_lens) if scaled else want
    want_lens, want_units, _ = count_tokens(want[:, -1], 0.3, 0.15, 4 * T)
    assert position.tolist() == want[:, 1:].tolist()
    assert token_lens.tolist() == want_lens.tolist()
    assert remainder.tolist() == units_to_weight(want_units, 0.3).tolist()


def test_what_lies_beside_the_tensors_in_memory_does_not_matter(backend):
    B, T, D = 3, 9, 5
    lens = torch.tensor([0, 9, 4])  # a row without frames beside rows with more tokens than a block holds
    alpha, embeds_grad = fenced(torch.rand(B, T)), fenced(torch.randn(B, 14, D))
    frames = fenced(torch.randn(B, T, D))
    target_lens = torch.tensor([0, 14, 6])

    got = both_ways(frames, lens, alpha, embeds_grad, target_lens=target_lens, backend=backend)

    want = both_ways(
        frames.clone(), lens, alpha.clone(), embeds_grad.clone(), target_lens=target_lens, backend="reference"
    )
    for got_tensor, want_tensor in zip(got, want, strict=True):
        torch.testing.assert_close(got_tensor, want_tensor, rtol=1e-5, atol=1e-5)


def both_ways(frames, lens, alpha, embeds_grad, **options):
    frames, alpha = frames.requires_grad_(), alpha.requires_grad_()
    embeds = cif(frames, lens, alpha, **options).acoustic_embeds
    return embeds, *torch.autograd.grad(embeds, [frames, alpha], embeds_grad)


@pytest.mark.parametrize("wanted", ["frames", "alpha"])
def test_one_gradient_is_the_same_without_the_other(backend, wanted):
    frames, alpha, lens = torch.randn(2, 9, 3), torch.rand(2, 9), torch.tensor([9, 6])
    both = both_ways(frames.clone(), lens, alpha.clone(), torch.ones(2, 5, 3), max_tokens=5, backend=backend)[1:]
    inputs = {"frames": frames, "alpha": alpha}
    inputs[wanted].requires_grad_()

    embeds = cif(frames, lens, alpha, max_tokens=5, backend=backend).acoustic_embeds
    (grad,) = torch.autograd.grad(embeds, inputs[wanted], torch.ones_like(embeds))

    assert grad.tolist() == both[list(inputs).index(wanted)].tolist()


@pytest.mark.parametrize("target_lens", [None, torch.tensor([3, 4])])
def test_compiling_it_breaks_no_graph_and_no_new_length_compiles_again(backend, target_lens):
    def loss(frames, lens, alpha):
        out = cif(frames, lens, alpha, target_lens=target_lens, max_tokens=7, tail_threshold=0.5, backend=backend)
        return out.acoustic_embeds.square().sum() + out.alpha_sum.sum(), out.fire_frames

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    torch._dynamo.utils.counters.clear()
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")  # a wait would break the graph

    for T in (9, 12, 17):
        inputs = torch.randn(2, T, 3, requires_grad=True), torch.tensor([T, 4]), torch.rand(2, T, requires_grad=True)
        got, got_frames = compiled(*inputs)
        want, want_frames = loss(*inputs)
        assert got_frames.tolist() == want_frames.tolist()
        torch.testing.assert_close(got, want)
        got_grads, want_grads = (torch.autograd.grad(x, [inputs[0], inputs[2]]) for x in (got, want))
        torch.testing.assert_close(got_grads, want_grads)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck looks at it
def test_the_operators_are_registered_as_torch_wants_them(backend):
    from cifasr.ops.cif import triton_backend  # triton is optional

    frames, alpha, lens = torch.randn(2, 6, 3), torch.rand(2, 6), torch.tensor([6, 4])
    frames, alpha, lens = (to_device(x, backend) for x in (frames, alpha, lens))
    position, token_lens, _ = triton_backend._positions(alpha, lens, None, 1.0, UNITS_PER_TOKEN, 9)
    inputs = frames.requires_grad_(), alpha.requires_grad_(), position, lens, token_lens, None, 3, 1.0

    torch.library.opcheck(triton_backend._positions, (alpha.detach(), lens, lens, 0.5, 99, 9))
    torch.library.opcheck(triton_backend._sum_tokens, inputs)


def test_auto_on_a_gpu_is_the_kernels_and_nothing_waits_for_it(backend):
    with FakeTensorMode():  # a GPU in name, whose values nobody can ask for
        inputs = (
            torch.randn(2, 9, 3, device="cuda"),
            torch.tensor([9, 4], device="cuda"),
            torch.rand(2, 9, device="cuda"),
        )
        with torch.autograd.profiler.profile() as profiler:
            out = operator.cif(*inputs, max_tokens=7, tail_threshold=0.5)

    assert out.acoustic_embeds.shape == (2, 7, 3)
    assert out.acoustic_embeds.device.type == "cuda"
    assert "cifasr::cif_sum_tokens" in {event.name for event in profiler.function_events}
