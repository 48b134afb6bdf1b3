"""An IF neuron with a soft reset fires where CIF fires."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cifasr.ops.cif import cif
from cifasr.ops.cif.membrane import UNITS_PER_TOKEN, weight_to_units


def fire_cif(alpha, threshold=1.0):
    """Run CIF over each row of alpha, (B, T): how often each frame fires, (B, T), and the remainders, (B,)."""
    B, T = alpha.shape
    out = cif(torch.zeros(B, T, 1), torch.full((B,), T), alpha, threshold=threshold)
    counts = [torch.bincount(f[:n], minlength=T) for f, n in zip(out.fire_frames, out.token_lens, strict=True)]
    return torch.stack(counts), out.remainder


def fire_if(neurons, alpha):
    """Run an IF neuron a row of alpha; rows are features, which know nothing of each other."""
    out = neurons(alpha.mT[None], torch.tensor([alpha.shape[1]]), decay=1.0)
    return out.spikes[0].mT, out.membrane[0]


@settings(max_examples=10)
@given(
    units=st.lists(
        st.one_of(st.integers(0, UNITS_PER_TOKEN), st.integers(0, 8).map(lambda k: k * UNITS_PER_TOKEN // 8)),
        min_size=1,
        max_size=40,
    )
)
def test_it_fires_exactly_where_cif_fires_and_keeps_the_same_remainder(neurons, units):
    alpha = torch.tensor([units], dtype=torch.float64) / UNITS_PER_TOKEN

    spikes, membrane = fire_if(neurons, alpha)

    counts, remainder = fire_cif(alpha)
    assert spikes.tolist() == counts.tolist()
    assert membrane.tolist() == remainder.tolist()


@pytest.mark.parametrize(
    ("dtype", "unit"), [(torch.float64, 2.0**-24), (torch.float32, 2.0**-23), (torch.bfloat16, 2.0**-8)]
)
def test_it_does_so_in_every_dtype_whose_sums_are_exact(neurons, dtype, unit):
    # Below two thresholds, float32 holds whole numbers of 2**-23; bfloat16 holds weights below one of 2**-8.
    alpha = ((torch.rand(70, 80, dtype=torch.float64) * 0.4 / unit).round() * unit).to(dtype)

    spikes, membrane = fire_if(neurons, alpha)

    counts, remainder = fire_cif(alpha)
    assert counts.sum() > 900
    assert torch.equal(spikes.long(), counts)
    assert torch.equal(membrane.double(), remainder)


def test_any_weight_rounded_as_cif_rounds_it_fires_where_cif_fires(neurons):
    alpha, threshold = torch.rand(20, 50) ** 3 * 0.7, 0.7
    rounded = weight_to_units(alpha, threshold).double() / UNITS_PER_TOKEN  # in thresholds

    spikes, membrane = fire_if(neurons, rounded)

    counts, remainder = fire_cif(alpha, threshold)
    assert spikes.tolist() == counts.tolist()
    assert (membrane * threshold).tolist() == pytest.approx(remainder.tolist())


def test_the_surplus_of_a_heavy_frame_fires_in_the_steps_that_follow(neurons):
    alpha = torch.tensor([[2.5, 0.0, 0.0, 0.5, 0.0]])

    spikes, membrane = fire_if(neurons, alpha)

    counts, remainder = fire_cif(alpha)
    assert counts.tolist() == [[2, 0, 0, 1, 0]]
    assert spikes.tolist() == [[1, 1, 0, 1, 0]]
    assert membrane.tolist() == remainder.tolist() == [0.0]
