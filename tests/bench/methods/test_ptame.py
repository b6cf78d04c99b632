import numpy as np
import onnx
import pytest
import torch

from bench.methods.ptame import (
    REFERENCE,
    SOURCE,
    SOURCE_LABEL,
    graph_method,
    graph_methods,
    source_method,
)
from bench.runtimes import RuntimeChoice
from ptame_deploy.auxiliaries import load_auxiliary
from ptame_deploy.explainer import start_explainer
from ptame_deploy.graph_parts import choose_classes
from ptame_deploy.preprocessing import to_float

pytestmark = pytest.mark.integration

CHOICE = RuntimeChoice(threads=1)


def own_answer(graphs, images):
    """What the graph itself explains: its classes (B, K) and their maps (B, K, h, w)."""
    runtime = CHOICE.open_graph(graphs.fused, graphs.manifest.inputs)
    found = runtime.run({"image": images})
    return found["class_index"], found["saliency"]


@pytest.fixture(scope="module")
def method(tiny_opened, tmp_path_factory):
    (found,) = graph_methods([tiny_opened.graphs], CHOICE, tmp_path_factory.mktemp("p") / "w")
    return found


def test_a_told_graph_gives_exactly_its_own_maps_for_its_own_classes(
    method, tiny_opened, batch_of_3
):
    classes, maps = own_answer(tiny_opened.graphs, batch_of_3)
    assert classes.shape == (3, 2)  # the artifact explains two
    for rank in (0, 1):
        np.testing.assert_array_equal(method.explain(batch_of_3, classes[:, rank]), maps[:, rank])
    assert not np.allclose(maps[:, 0], maps[:, 1], atol=1e-3)


def test_other_classes_have_other_maps(method, batch_of_3):
    by_class = np.stack([method.explain(batch_of_3, np.full(3, index)) for index in range(10)])
    assert by_class.shape[:2] == (10, 3)
    for one in range(10):
        for other in range(one):
            assert not np.allclose(by_class[one], by_class[other], atol=1e-3)
    mixed = method.explain(batch_of_3, np.array([4, 9, 0]))
    np.testing.assert_allclose(mixed, by_class[[4, 9, 0], [0, 1, 2]], atol=1e-6)


def test_a_batch_is_its_photos_one_by_one(method, batch_of_3):
    classes = np.array([4, 9, 0])
    maps = method.explain(batch_of_3, classes)
    for row in range(3):
        alone = method.explain(batch_of_3[row : row + 1], classes[row : row + 1])
        np.testing.assert_allclose(alone[0], maps[row], atol=1e-5)


def test_the_chosen_graph_has_the_classes_as_input_alone(tiny_opened, tmp_path):
    graphs = tiny_opened.graphs
    path = choose_classes(graphs.fused, graphs.manifest, tmp_path / "chosen.onnx")
    model = onnx.load(path)
    onnx.checker.check_model(model)
    assert [one.name for one in model.graph.input] == ["image", "class_index"]
    assert [one.name for one in model.graph.output] == ["logits", "saliency"]
    assert "TopK" not in {node.op_type for node in model.graph.node}
    assert graphs.fused.read_bytes() != path.read_bytes()


def test_a_graph_that_takes_the_classes_is_taken_as_it_is(opened, tiny_classes_artifact, tmp_path):
    graphs = opened(tiny_classes_artifact).graphs
    assert choose_classes(graphs.fused, graphs.manifest, tmp_path / "no.onnx") == graphs.fused
    assert not (tmp_path / "no.onnx").exists()


def test_a_graph_that_takes_bytes_gets_them(opened, tiny_classes_artifact, tiny_opened, tmp_path):
    graphs = opened(tiny_classes_artifact).graphs
    assert graphs.manifest.takes_uint8
    pixels = np.random.default_rng(2).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    (method,) = graph_methods([graphs], CHOICE, tmp_path / "w")
    classes = np.array([[4], [9], [0]])
    runtime = CHOICE.open_graph(graphs.fused, graphs.manifest.inputs)
    expected = runtime.run({"image": pixels, "class_index": classes})["saliency"][:, 0]
    found = method.explain(to_float(pixels), classes[:, 0])
    np.testing.assert_array_equal(found, expected)
    # The same networks as the graph that takes floats:
    (floats,) = graph_methods([tiny_opened.graphs], CHOICE, tmp_path / "f")
    np.testing.assert_allclose(floats.explain(to_float(pixels), classes[:, 0]), found, atol=1e-4)


def test_what_the_rows_tell(method, tiny_opened):
    assert (method.name, method.label) == (REFERENCE, "P-TAME, untrained start")
    assert method.cost.passes == 1
    assert method.own_classes is None
    assert method.precision == "fp32"
    assert any("RANDOM" in caution for caution in method.cautions)
    manifest = tiny_opened.graphs.manifest
    assert manifest.explainer.weights_sha256 in method.identity


def test_other_precisions_are_rows_of_their_own(tiny_opened, tmp_path):
    lowered = tiny_opened.graphs.manifest.model_copy(update={"precision": "fp16"})
    graphs = tiny_opened.graphs
    other = type(graphs)(lowered, graphs.fused, graphs.classifier)
    rows = graph_methods([graphs, other], CHOICE, tmp_path / "w")
    assert [(row.name, row.precision) for row in rows] == [
        ("p-tame", "fp32"), ("p-tame-fp16", "fp16"),
    ]  # fmt: skip
    assert rows[1].label == "P-TAME FP16"


@pytest.fixture(scope="module")
def in_pytorch(tiny_source, tiny_opened):
    record = tiny_opened.graphs.manifest.explainer
    auxiliary = load_auxiliary(
        record.auxiliary, weights="random", input_sizes=record.auxiliary_input_sizes, seed=0
    )
    explainer, _ = start_explainer(auxiliary, 10, None, seed=0)
    manifest = tiny_opened.graphs.manifest
    return source_method(SOURCE, SOURCE_LABEL, tiny_source, auxiliary, explainer, manifest)


def test_the_source_gives_the_graphs_maps(in_pytorch, method, batch_of_3):
    classes = np.array([4, 9, 0])
    maps = in_pytorch.explain(batch_of_3, classes)
    np.testing.assert_allclose(maps, method.explain(batch_of_3, classes), atol=1e-4)
    other = in_pytorch.explain(batch_of_3, classes[[1, 2, 0]])
    assert not np.allclose(other, maps, atol=1e-3)


def test_the_sources_cascades_reach_what_they_say(in_pytorch, tiny_backbone, batch_of_3):
    """Told the class, P-TAME asks nothing of the classifier; all of its own networks count."""
    classes = np.array([4, 9, 0])
    maps = in_pytorch.explain(batch_of_3, classes)
    of_classifier, own = in_pytorch.classifier_cascade, in_pytorch.own_cascade
    broken = tiny_backbone("zero_head").module
    np.testing.assert_array_equal(of_classifier.explain_with(broken)(batch_of_3, classes), maps)
    np.testing.assert_array_equal(own.explain_with(own.module)(batch_of_3, classes), maps)
    parameters = [p for p in own.module.parameters() if p.numel() > 1]
    weight = parameters[0]
    before = weight.detach().clone()
    with torch.no_grad():
        try:
            weight.copy_(torch.flip(before, (0,)))
            changed = own.explain_with(own.module)(batch_of_3, classes)
        finally:
            weight.copy_(before)
    assert not np.allclose(changed, maps, atol=1e-3)
    np.testing.assert_array_equal(in_pytorch.explain(batch_of_3, classes), maps)


def test_a_graph_method_takes_any_name(tiny_classes_artifact, opened, batch_of_3):
    graphs = opened(tiny_classes_artifact).graphs
    method = graph_method("x", "An x", graphs.fused, graphs.manifest, CHOICE)
    assert (method.name, method.label) == ("x", "An x")
    assert method.explain(batch_of_3, np.array([1, 2, 3])).shape[0] == 3
