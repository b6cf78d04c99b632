"""A graph's inputs and outputs: what the contract asks for, and what a file really has."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from ptame_deploy.artifacts import TensorRecord
from ptame_deploy.errors import CheckFailedError

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Border:
    """Inputs and outputs of a graph, in order; names in shapes are dynamic dimensions."""

    inputs: list[TensorRecord]
    outputs: list[TensorRecord]

    @classmethod
    def of_contract(
        cls,
        *,
        input_size: tuple[int, int],
        map_size: tuple[int, int],
        num_classes: int,
        top_k: int | None,
        uint8_input: bool,
    ) -> Self:
        """Return what a fused graph must have.

        Args:
            input_size: height and width of the image.
            map_size: height and width of the maps.
            num_classes: length of the logits.
            top_k: classes that the graph chooses itself; None where the caller gives them.
            uint8_input: uint8 (B, H, W, 3) instead of float32 (B, 3, H, W).
        """
        height, width = input_size
        image = TensorRecord(name="image", dtype="float32", shape=["batch", 3, height, width])
        if uint8_input:
            image = TensorRecord(name="image", dtype="uint8", shape=["batch", height, width, 3])
        count: int | str = "classes" if top_k is None else top_k
        index = TensorRecord(name="class_index", dtype="int64", shape=["batch", count])
        logits = TensorRecord(name="logits", dtype="float32", shape=["batch", num_classes])
        saliency = TensorRecord(name="saliency", dtype="float32", shape=["batch", count, *map_size])
        if top_k is None:
            return cls([image, index], [logits, saliency])
        return cls([image], [logits, index, saliency])

    @classmethod
    def of_graph(cls, model: "onnx.ModelProto") -> Self:
        """Return what a graph has."""
        graph = model.graph
        return cls([_tensor(v) for v in graph.input], [_tensor(v) for v in graph.output])

    def check(self, model: "onnx.ModelProto", opset: int) -> None:
        """Compare a graph that was just written with what was asked for.

        Raises:
            CheckFailedError: its opset, or a name, type or shape, is another.
        """
        from ptame_deploy.graph_file import opset_of

        written = opset_of(model)
        found = Border.of_graph(model)
        if found != self and found.with_any_batch() == self:
            message = (
                "The graph is frozen to one batch size: code of the classifier, of its --head, or "
                "of what is read from it takes it for a number, as len(), int() and loops over a "
                "batch do. Use x.shape[0] and tensors, or another --auxiliary than self."
            )
            raise CheckFailedError(message)
        if written != opset or found != self:
            message = (
                f"The graph has opset {written} with {found}; "
                f"asked for were opset {opset} with {self}."
            )
            raise CheckFailedError(message)

    def with_any_batch(self) -> Self:
        """Return the same with a dynamic batch."""
        freed = (
            [one.model_copy(update={"shape": ["batch", *one.shape[1:]]}) for one in side]
            for side in (self.inputs, self.outputs)
        )
        return type(self)(*freed)

    def __str__(self) -> str:
        sides = (
            ", ".join(f"{t.name} {t.dtype} {t.shape}" for t in side)
            for side in (self.inputs, self.outputs)
        )
        return " -> ".join(sides)


def _tensor(value: "onnx.ValueInfoProto") -> TensorRecord:
    import onnx

    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    shape = [d.dim_param or d.dim_value for d in tensor.shape.dim]
    return TensorRecord(name=value.name, dtype=str(dtype), shape=shape)
