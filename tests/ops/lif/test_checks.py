import math

import pytest
import torch

from cifasr.errors import BackendUnavailableError
from cifasr.ops.lif import ATan, FastSigmoid, Rect, Sigmoid, lif

CURRENT, LENS = torch.ones(2, 4, 3), torch.tensor([4, 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"current": torch.ones(2, 4)}, r"current: got \(2, 4\) of torch.float32, wanted \(B, T, D\)"),
        ({"current": torch.ones(2, 4, 3, dtype=torch.int64)}, r"current: got .*int64.*float"),
        ({"input_lens": torch.tensor([4])}, r"input_lens: got \(1,\).*wanted \(2,\)"),
        ({"input_lens": torch.tensor([4.0, 2.0])}, r"input_lens: got .*float32.*int64"),
        ({"input_lens": torch.tensor([4, 5])}, r"input_lens\[1\]: got 5, wanted 0 to 4"),
        ({"input_lens": torch.tensor([-1, 2])}, r"input_lens\[0\]: got -1, wanted 0 to 4"),
        ({"membrane": torch.zeros(2, 4)}, r"membrane: got \(2, 4\).*wanted \(2, 3\)"),
        ({"membrane": torch.zeros(2, 3, dtype=torch.float16)}, r"membrane: got .*float16, wanted .*float32"),
        ({"current": CURRENT.double(), "membrane": torch.zeros(2, 3)}, r"membrane: got .*float32, wanted .*float64"),
        ({"decay": 1.5}, r"decay: got 1.5, wanted 0 to 1"),
        ({"decay": -0.1}, r"decay: got -0.1"),
        ({"decay": math.nan}, r"decay: got nan"),
        ({"threshold": 0.0}, r"threshold: got 0.0, wanted a finite number > 0"),
        ({"threshold": math.inf}, r"threshold: got inf"),
        ({"reset": "soft"}, r"reset: got 'soft', wanted one of 'subtract', 'zero'"),
        ({"backend": "fast"}, r"backend: got 'fast'"),
    ],
)
def test_an_argument_that_does_not_fit_is_named_with_what_was_wanted(changes, message):
    arguments = {"current": CURRENT, "input_lens": LENS, "decay": 0.9} | changes

    with pytest.raises(ValueError, match=message):
        lif(arguments.pop("current"), arguments.pop("input_lens"), **arguments)


def test_a_surrogate_that_is_none_is_told_the_choices():
    with pytest.raises(TypeError, match=r"surrogate: got 'atan', wanted an object of one of ATan, Sigmoid, Fast"):
        lif(CURRENT, LENS, decay=0.9, surrogate="atan")


@pytest.mark.parametrize("surrogate", [ATan, Sigmoid, FastSigmoid, Rect])
@pytest.mark.parametrize("size", [0.0, -1.0, math.nan, math.inf])
def test_a_surrogate_of_no_size_is_refused(surrogate, size):
    with pytest.raises(ValueError, match=rf"{surrogate.__name__}\.(slope|width): got {size}, wanted a finite"):
        surrogate(size)


def test_triton_by_name_raises_instead_of_falling_back(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    with pytest.raises(BackendUnavailableError, match="triton"):
        lif(CURRENT, LENS, decay=0.9, backend="triton")
