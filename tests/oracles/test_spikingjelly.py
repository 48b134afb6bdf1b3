import pytest
import torch

from cifasr.ops.cif import cif
from cifasr.ops.lif import ATan, Rect, Sigmoid, lif
from cifasr.spiking.lif import LIF
from cifasr.spiking.plasticity import STDP
from cifasr.spiking.sliding_psn import SlidingPSN
from cifasr.spiking.tdbn import TdBN

pytest.importorskip("spikingjelly", reason="needs SpikingJelly: see tests/oracles/README.md")

from spikingjelly.activation_based import functional, layer, neuron, surrogate

T, B, D = 200, 3, 64
LENS = torch.full((B,), T)
SURROGATES = {
    "ATan": (ATan(2.0), surrogate.ATan(2.0)),
    "Sigmoid": (Sigmoid(4.0), surrogate.Sigmoid(4.0)),
    "Rect": (Rect(1.0), surrogate.Rect(1.0)),
}


def run_both(current, ours, theirs):
    """Spikes of both, (B, T, D), and gradients of the same loss to the current."""
    weights = torch.randn(B, T, D)
    results = []
    for run in (lambda x: ours(x, LENS)[0], lambda x: theirs(x.transpose(0, 1)).transpose(0, 1)):
        x = current.clone().requires_grad_()
        spikes = run(x)
        (grad,) = torch.autograd.grad((spikes * weights).sum(), x)
        results.append((spikes.detach(), grad))
    return results


@pytest.mark.parametrize("detach", [False, True])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("kind", ["settles", "adds"])
@pytest.mark.parametrize("bump", SURROGATES)
def test_lif_spikes_and_has_gradients_as_theirs(compared, bump, kind, reset, detach):
    our_bump, their_bump = SURROGATES[bump]
    ours = LIF(0.75, convention=kind, reset=reset, surrogate=our_bump, detach_reset=detach)
    theirs = neuron.LIFNode(
        tau=4.0,
        decay_input=kind == "settles",
        v_reset=None if reset == "subtract" else 0.0,
        surrogate_function=their_bump,
        detach_reset=detach,
        step_mode="m",
    )
    scale = 4 if kind == "settles" else 1

    (spikes, grad), (their_spikes, their_grad) = run_both(scale * (torch.rand(B, T, D) - 0.2), ours, theirs)

    differing, gap = int((spikes != their_spikes).sum()), (grad - their_grad).abs().max().item()
    what = f"LIF {kind}, reset {reset}{', detached' if detach else ''}, {bump}"
    compared("SpikingJelly", what, f"{int(spikes.sum())} spikes", f"{differing} differ, gradients by {gap:.0e}")
    assert differing == 0
    assert spikes.any()
    torch.testing.assert_close(grad, their_grad, rtol=1e-4, atol=1e-5)


def test_cif_fires_as_their_if_node(compared):
    alpha = torch.randint(0, 2**20, (8, 1000)) / 2**20  # sums are exact

    out = cif(torch.zeros(8, 1000, 1), torch.full((8,), 1000), alpha)
    spikes = neuron.IFNode(v_reset=None, step_mode="m")(alpha.T[..., None].contiguous())[..., 0].T
    fired = [out.fire_frames[i, :n].tolist() for i, n in enumerate(out.token_lens.tolist())]

    theirs = [row.nonzero().flatten().tolist() for row in spikes]
    compared(
        "SpikingJelly", "CIF and IFNode: frames of firing", f"{out.token_lens.sum()} firings", f"{spikes.sum():.0f}"
    )
    assert fired == theirs


def test_at_the_threshold_both_fire(compared):
    ours = lif(torch.ones(1, 1, 1), torch.tensor([1]), decay=0.5).spikes.item()
    theirs = neuron.IFNode(step_mode="m")(torch.ones(1, 1)).item()

    compared("SpikingJelly", "spike at the threshold itself", ours, theirs)
    assert ours == theirs == 1


@pytest.mark.parametrize("bump", SURROGATES)
def test_surrogates_have_their_values(compared, bump):
    ours, theirs = SURROGATES[bump]
    above = torch.tensor([-1, -0.49, 0, 0.25, 1.0]).requires_grad_()

    values = ours.derivative(above.detach())
    (wanted,) = torch.autograd.grad(theirs(above).sum(), above)

    compared(
        "SpikingJelly", f"{bump} at -1 -.49 0 .25 1", *([round(v, 4) for v in x.tolist()] for x in (values, wanted))
    )
    torch.testing.assert_close(values, wanted)


def test_a_sliding_psn_is_theirs(compared):
    ours, theirs = SlidingPSN(4), neuron.SlidingPSN(4, step_mode="m")

    (spikes, grad), (their_spikes, their_grad) = run_both(torch.rand(B, T, D) - 0.1, ours, theirs)

    differing = int((spikes != their_spikes).sum())
    compared("SpikingJelly", "SlidingPSN, order 4", f"{int(spikes.sum())} spikes", f"{differing} differ")
    assert differing <= 3  # they add in another order: a potential on the threshold may fall to the other side
    torch.testing.assert_close(grad[spikes == their_spikes], their_grad[spikes == their_spikes], rtol=1e-3, atol=1e-3)


def test_tdbn_is_theirs(compared):
    x = 3 * torch.randn(B, T, D) + 1
    theirs = layer.ThresholdDependentBatchNorm1d(2**-0.5, 0.5, D)

    ours = TdBN(D, threshold=0.5, scale=2**-0.5)(x, LENS)
    wanted = theirs(x.transpose(0, 1)).transpose(0, 1)

    compared("SpikingJelly", "TdBN: largest difference", "", f"{(ours - wanted).abs().max():.0e}")
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lag", [1, 5, 10, -1, -10])
def test_stdp_differs_from_theirs_by_their_decay_only(compared, lag):
    pre, post = torch.zeros(1, 21, 1), torch.zeros(1, 21, 1)
    pre[0, 10], post[0, 10 + lag] = 1, 1

    ours, _ = STDP(strengthen=1, weaken=1).changes(pre, post, torch.tensor([21]), step_ms=1)
    traces, theirs = (torch.zeros(1, 1), torch.zeros(1, 1)), torch.zeros(1, 1)
    for pre_t, post_t in zip(pre.unbind(1), post.unbind(1), strict=True):
        change, traces = functional.stdp_linear_step(
            pre_t, post_t, traces, torch.ones(1, 1), tau_pre=20.0, tau_post=20.0
        )
        theirs = theirs + change

    compared("SpikingJelly", f"STDP of a pair at {lag:+} ms", f"{ours.sum():.6f}", f"{theirs.item():.6f}")
    sign = 1 if lag > 0 else -1
    assert ours.sum().item() == pytest.approx(sign * torch.tensor(-abs(lag) / 20).exp().item(), rel=1e-5)
    assert theirs.item() == pytest.approx(sign * 0.95 ** abs(lag), rel=1e-5)
