import numpy as np
import pytest

from engines.onnx_runtime import BoundBatch, OnnxRuntime
from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import GraphManifest
from ptame_deploy.errors import ArtifactError, InvalidInputError, MissingRequirementError
from ptame_deploy.onnx_session import PROVIDERS
from ptame_deploy.synthetic import synthetic_images

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def graph(tiny_artifact):
    return OnnxRuntime(tiny_artifact / "model.onnx")


def images(count, seed=0):
    return {"image": synthetic_images(count, 64, 64, uint8=False, seed=seed)}


def test_a_staged_batch_gives_what_a_run_gives(graph):
    assert not graph.copies
    batch = graph.stage(images(3))
    batch.upload()
    batch.compute()
    found = batch.download()
    for name, expected in graph.run(images(3)).items():
        np.testing.assert_array_equal(found[name], expected)


def test_bound_buffers_give_what_a_run_gives(graph):
    """The path for a GPU, with the host's memory in its place."""
    arrays = images(2)
    batch = BoundBatch(graph._session, graph._outputs, arrays, "cpu")
    batch.compute()
    first = batch.download()
    arrays["image"][:] = images(2, seed=5)["image"]
    batch.upload()
    batch.compute()
    for found, expected in ((first, graph.run(images(2))), (batch.download(), graph.run(arrays))):
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])
    assert not np.array_equal(first["logits"], batch.download()["logits"])


def test_wrong_inputs_are_refused_before_anything_is_staged(graph):
    with pytest.raises(InvalidInputError, match="'image' must be float32"):
        graph.stage({"image": np.zeros((1, 3, 65, 64), np.float32)})
    with pytest.raises(InvalidInputError, match="takes"):
        graph.stage({})


def test_a_manifest_that_tells_of_another_border(graph, tiny_artifact):
    manifest = read_manifest(tiny_artifact, "model.json", GraphManifest)
    graph.check_border(manifest)
    wrong = manifest.inputs[0].model_copy(update={"dtype": "uint8"})
    with pytest.raises(ArtifactError, match="image: float32"):
        graph.check_border(manifest.model_copy(update={"inputs": [wrong]}))


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_missing_provider_is_said_and_never_replaced(tiny_artifact, name):
    import onnxruntime

    if PROVIDERS[name][0] in onnxruntime.get_available_providers():
        pytest.skip("the provider is there")
    with pytest.raises(MissingRequirementError, match=PROVIDERS[name][0]):
        OnnxRuntime(tiny_artifact / "model.onnx", providers=PROVIDERS[name])


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_on_a_gpu_it_answers_as_on_the_cpu(graph, tiny_artifact, name):
    import onnxruntime

    if PROVIDERS[name][0] not in onnxruntime.get_available_providers():
        pytest.skip(f"ONNX Runtime here has no {PROVIDERS[name][0]}")
    try:
        runtime = OnnxRuntime(tiny_artifact / "model.onnx", providers=PROVIDERS[name])
    except MissingRequirementError as error:
        pytest.skip(str(error))
    assert runtime.copies
    batch = runtime.stage(images(3))
    batch.upload()
    batch.compute()
    expected = graph.run(images(3))
    for found in (batch.download(), runtime.run(images(3))):
        np.testing.assert_allclose(found["logits"], expected["logits"], atol=1e-2)
        np.testing.assert_allclose(found["saliency"], expected["saliency"], atol=1e-2)
