import math

import pytest
import torch

from cifasr.errors import BackendUnavailableError
from tests.ops.cif.backends import BACKENDS, FAST, cif

FRAMES, LENS, ALPHA = torch.ones(2, 4, 3), torch.tensor([4, 2]), torch.full((2, 4), 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": torch.ones(2, 4)}, r"frames: got \(2, 4\).*wanted \(B, T, D\)"),
        ({"frames": torch.ones(2, 4, 3, dtype=torch.int64)}, r"frames: got .*int64.*float"),
        ({"alpha": torch.ones(2, 5)}, r"alpha: got \(2, 5\).*wanted \(2, 4\)"),
        ({"frame_lens": torch.tensor([4])}, r"frame_lens: got \(1,\).*wanted \(2,\)"),
        ({"frame_lens": torch.tensor([4.0, 2.0])}, r"frame_lens: got .*float32.*int64"),
        ({"frame_lens": torch.tensor([4, 5])}, r"frame_lens\[1\]: got 5, wanted 0 to 4"),
        ({"frame_lens": torch.tensor([-1, 2])}, r"frame_lens\[0\]: got -1"),
        ({"target_lens": torch.tensor([1])}, r"target_lens: got \(1,\).*wanted \(2,\)"),
        ({"target_lens": torch.tensor([1, -1])}, r"target_lens\[1\]: got -1, wanted >= 0"),
        ({"target_lens": torch.tensor([1, 1]), "frame_lens": torch.tensor([4, 0])}, r"target_lens\[1\].*without valid"),
        ({"threshold": 0.0}, r"threshold: got 0.0"),
        ({"threshold": math.nan}, r"threshold: got nan"),
        ({"tail_threshold": 0.0}, r"tail_threshold: got 0.0"),
        ({"tail_threshold": 1.5}, r"tail_threshold: got 1.5.*<= 1.0"),
        ({"max_tokens": -1}, r"max_tokens: got -1"),
        ({"backend": "fast"}, r"backend: got 'fast'"),
    ],
)
def test_an_argument_that_does_not_fit_is_named_with_what_was_wanted(changes, message):
    frames, lens, alpha = (changes.pop(k, v) for k, v in (("frames", FRAMES), ("frame_lens", LENS), ("alpha", ALPHA)))

    with pytest.raises(ValueError, match=message):
        cif(frames, lens, alpha, **changes)


@pytest.mark.parametrize("options", [{"validate": True}, {"backend": "reference"}])
@pytest.mark.parametrize("value", [-0.25, math.nan, math.inf])
def test_a_bad_weight_is_named_with_its_place(options, value):
    alpha = ALPHA.clone()
    alpha[1, 1] = value

    with pytest.raises(ValueError, match=rf"alpha\[1, 1\]: got {value}, wanted a finite weight >= 0"):
        cif(FRAMES, LENS, alpha, **options)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("value", [-0.25, math.nan])
def test_a_bad_weight_that_nobody_checks_counts_as_zero(backend, value):
    alpha, without = ALPHA.clone(), ALPHA.clone()
    alpha[1, 1], without[1, 1] = value, 0

    out = cif(FRAMES, LENS, alpha, backend=backend)

    assert out.acoustic_embeds.tolist() == cif(FRAMES, LENS, without, backend=backend).acoustic_embeds.tolist()


def test_triton_by_name_raises_where_it_cannot_run_instead_of_falling_back(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    with pytest.raises(BackendUnavailableError, match="triton"):
        cif(FRAMES, LENS, ALPHA, backend="triton")


@pytest.mark.parametrize("backend", BACKENDS)
def test_inputs_are_left_as_they_were_and_a_second_call_gives_the_same(backend):
    frames, alpha = torch.randn(2, 30, 3, requires_grad=True), torch.rand(2, 30, requires_grad=True)
    lens, target_lens = torch.tensor([30, 20]), torch.tensor([5, 40])
    before = [x.detach().clone() for x in (frames, lens, alpha, target_lens)]

    runs = []
    for _ in range(2):
        out = cif(frames, lens, alpha, target_lens=target_lens, backend=backend)
        runs.append([out.acoustic_embeds, *torch.autograd.grad(out.acoustic_embeds.square().sum(), [frames, alpha])])

    assert all(torch.equal(x, y) for x, y in zip(*runs, strict=True))
    assert all(torch.equal(x, y) for x, y in zip(before, (frames, lens, alpha, target_lens), strict=True))
