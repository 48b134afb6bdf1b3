"""The implementations that every test of the operator runs on.

"triton" runs in Triton's interpreter, on a machine without a GPU; "triton on a GPU" is its twin on real hardware, where
tensors go to the GPU and results come back, so that the same lines test both.
"""

from importlib.util import find_spec

import pytest
import torch
from torch import Tensor

from cifasr.ops import cif as operator
from cifasr.ops.cif import CifOutput

ON_GPU = "triton on a GPU"

TRITON = [
    pytest.param(
        "triton",
        marks=[
            pytest.mark.skipif(not find_spec("triton"), reason="needs the package triton"),
            pytest.mark.skipif(torch.cuda.is_available(), reason="on a machine with a GPU its twin runs"),
        ],
    ),
    pytest.param(ON_GPU, marks=pytest.mark.gpu),
]
FAST = ["vectorized", *TRITON]
BACKENDS = ["reference", *FAST]


def cif(frames: Tensor, frame_lens: Tensor, alpha: Tensor, *, backend: str = "auto", **options) -> CifOutput:
    """Run the operator on one of `BACKENDS`; what goes to a GPU comes back, gradients too."""
    if backend != ON_GPU:
        return operator.cif(frames, frame_lens, alpha, backend=backend, **options)
    tensors = [x.cuda() for x in (frames, frame_lens, alpha)]
    options = {name: x.cuda() if isinstance(x, Tensor) else x for name, x in options.items()}
    return CifOutput(*[x.cpu() for x in operator.cif(*tensors, backend="triton", **options)])
