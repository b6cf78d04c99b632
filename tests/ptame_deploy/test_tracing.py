import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

from ptame_deploy.errors import CheckFailedError
from ptame_deploy.tracing import trace

pytestmark = pytest.mark.integration


class BlockAttention(nn.Module):
    """Attention within blocks, as NesT's: queries of five axes, which ONNX's operator refuses."""

    def __init__(self, *, can_be_written_out=True):
        super().__init__()
        self.can_be_written_out = can_be_written_out
        self.fused_attn = True

    def forward(self, x):
        blocks = x.unflatten(1, (2, 2, 3)).unsqueeze(1)  # (B, 1, 2, 2, 3, C)
        q = k = v = blocks.flatten(2, 3)
        if self.fused_attn or not self.can_be_written_out:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            weights = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
            mixed = weights.softmax(dim=-1) @ v
        return mixed.flatten(1)


def traced(module):
    example, batch = torch.rand(2, 12, 4), torch.export.Dim("batch", min=1)
    return trace(module.eval(), [example], [{0: batch}], ["x"], ["y"], 20)


def test_attention_of_five_axes_is_written_out():
    module = BlockAttention()
    graph = traced(module)
    assert module.fused_attn  # PyTorch goes on with its own
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    for count in (1, 3):
        x = torch.rand(count, 12, 4)
        found = session.run(None, {"x": x.numpy()})[0]
        np.testing.assert_allclose(found, module(x).numpy(), atol=1e-6)


def test_a_failure_is_told_by_what_failed_first():
    module = BlockAttention(can_be_written_out=False)
    with pytest.raises(CheckFailedError, match="only 4D query") as caught:
        traced(module)
    assert "\x1b" not in str(caught.value)
    assert module.fused_attn


IN_PLACE: list[bool] = []


class Activated(nn.Module):
    """A convolution, an activation in place, and what is made of both."""

    def __init__(self, *, shortcut):
        super().__init__()
        self.conv = nn.Conv1d(12, 12, 1)
        self.act = nn.Hardswish(inplace=True)
        self.shortcut = shortcut

    def forward(self, x):
        IN_PLACE.append(self.act.inplace)
        before = self.conv(x)
        after = self.act(before)
        return before + after if self.shortcut else after


@pytest.mark.parametrize("shortcut", [False, True])
def test_activations_in_place_are_exported_as_they_answer(shortcut):
    """With the shortcut, what the activation overwrote is read again: twice the activated."""
    torch.manual_seed(0)
    module = Activated(shortcut=shortcut).eval()
    x = torch.randn(3, 12, 4)
    with torch.no_grad():
        expected = module(x.clone())
        activated = functional.hardswish(module.conv(x))
    torch.testing.assert_close(expected, 2 * activated if shortcut else activated)
    graph = traced(module)
    assert module.act.inplace
    assert IN_PLACE[-1] == shortcut  # as it was traced: tracing in place takes twice as long
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], expected, atol=1e-6)


def test_activations_are_as_they_were_after_a_failure():
    module = nn.Sequential(nn.ReLU(inplace=True), BlockAttention(can_be_written_out=False))
    with pytest.raises(CheckFailedError, match="only 4D query"):
        traced(module)
    assert module[0].inplace
