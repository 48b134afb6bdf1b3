import pytest
import torch

from cifasr.cerebellum.forward_model import EchoState

pytest.importorskip("reservoirpy", reason="needs reservoirpy: see tests/oracles/README.md")

from reservoirpy.nodes import Reservoir


def test_a_reservoir_echoes_as_theirs(compared):
    echo = EchoState.grow(torch.Generator().manual_seed(0), 2, 60)
    inputs = torch.randn(500, 2, dtype=torch.float64)
    theirs = Reservoir(W=echo.recurrent.numpy(), Win=echo.inward.numpy(), bias=echo.bias.numpy(), lr=echo.leak)

    senses, _ = echo.sense(inputs[None], echo.init_state(1))
    states = torch.from_numpy(theirs.run(inputs.numpy()))

    gap = (senses[0, :, :-1] - states).abs().max().item()
    compared("reservoirpy", "echo states, 60 neurons, 500 steps: largest difference", "", f"{gap:.0e}")
    assert gap < 1e-12
