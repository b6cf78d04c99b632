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
