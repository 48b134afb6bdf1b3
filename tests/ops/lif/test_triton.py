"""The kernels as operators of torch."""

import pytest
import torch

from cifasr.ops.lif import Rect, lif

pytest.importorskip("triton")

INTERPRETED = pytest.mark.skipif(torch.cuda.is_available(), reason="on a machine with a GPU its twin runs")
DEVICES = [pytest.param("cpu", marks=INTERPRETED), pytest.param("cuda", marks=pytest.mark.gpu)]


def run(current, input_lens, membrane):
    return lif(current, input_lens, decay=0.9, membrane=membrane, surrogate=Rect(0.5), backend="triton")


@pytest.mark.parametrize("device", DEVICES)
def test_compile_sees_one_graph_with_the_same_spikes_and_gradients(device):
    current = torch.randn(2, 5, 3, device=device, requires_grad=True)
    membrane = torch.rand(2, 3, device=device, requires_grad=True)
    grads = torch.randn(2, 5, 3, device=device), torch.randn(2, 3, device=device)
    input_lens = torch.tensor([5, 2], device=device)

    got = torch.compile(run, fullgraph=True, backend="aot_eager")(current, input_lens, membrane)
    got_grads = torch.autograd.grad(got, [current, membrane], grads)

    want = run(current, input_lens, membrane)
    want_grads = torch.autograd.grad(want, [current, membrane], grads)
    assert all(torch.equal(x, y) for x, y in zip([*got, *got_grads], [*want, *want_grads], strict=True))


@pytest.mark.parametrize("device", DEVICES)
def test_the_operators_keep_the_promises_that_torch_asks_for(device):
    from cifasr.ops.lif.triton_backend import _gradients, _scan

    current, membrane = torch.randn(2, 3, 2, device=device), torch.rand(2, 2, device=device)
    input_lens, neuron = torch.tensor([3, 3], device=device), (0.9, 1.0, "zero", "ATan", 2.0, False)

    promises = ("test_schema", "test_autograd_registration", "test_faketensor")  # the test above has the rest
    grads = torch.randn(2, 3, 2, device=device), torch.rand(2, 2, device=device)
    torch.library.opcheck(_gradients, (*grads, current, input_lens, *neuron), test_utils=promises)
    current.requires_grad_()
    torch.library.opcheck(_scan, (current, input_lens, membrane, *neuron, True), test_utils=promises)


@pytest.mark.parametrize("device", DEVICES)
def test_the_potential_is_written_only_where_a_backward_pass_may_want_it(device, monkeypatch):
    from cifasr.ops.lif import kernel

    wanted, forward = [], kernel.forward
    monkeypatch.setattr(kernel, "forward", lambda *arguments: wanted.append(arguments[-1]) or forward(*arguments))
    current, input_lens, membrane = (x.to(device) for x in (torch.ones(1, 2, 1), torch.tensor([2]), torch.zeros(1, 1)))

    run(current, input_lens, membrane)
    run(current.requires_grad_(), input_lens, membrane)
    with torch.no_grad():
        run(current, input_lens, membrane)

    assert wanted == [False, True, False]


@pytest.mark.gpu
def test_a_new_length_compiles_nothing():
    from cifasr.ops.lif.kernel import _backward_kernel, _forward_kernel

    def spike(num_steps):
        current = torch.randn(2, num_steps, 48, device="cuda", requires_grad=True)
        out = lif(current, torch.tensor([num_steps, num_steps // 2], device="cuda"), decay=0.9, backend="triton")
        out.spikes.sum().backward()
        device = current.device.index
        return [len(kernel.device_caches[device][0]) for kernel in (_forward_kernel, _backward_kernel)]

    num_compiled = spike(37)

    assert all(spike(num_steps) == num_compiled for num_steps in range(1, 201))
