"""What holds for every input, searched for by Hypothesis: JSON of any shape, bytes of any kind."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from engines.serve.protocol import read_request
from ptame_deploy.artifacts import ExplainerManifest, GraphManifest
from ptame_deploy.classes import find_class
from ptame_deploy.errors import InvalidInputError
from ptame_deploy.heads import logits_of, probabilities
from ptame_deploy.part_records import ClassifierRecord
from ptame_deploy.preprocessing import Preprocessing

pytestmark = pytest.mark.unit
often = settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


@often
@given(field=st.sampled_from(sorted(GraphManifest.model_fields)), value=documents)
def test_a_manifest_with_any_value_in_any_field_is_valid_or_refused(whole, field, value):
    for model, document in whole.items():
        if field not in document:
            continue
        try:
            made = model.model_validate(document | {field: value})
        except ValidationError:
            continue
        assert model.model_validate_json(made.model_dump_json()) == made  # what is valid stays so


@pytest.fixture(scope="module")
def whole(tiny_artifact):
    graph = json.loads((tiny_artifact / "model.json").read_text())
    kept = ("provenance", "classifier", "explainer", "preprocessing", "schema_version")
    explainer = {name: graph[name] for name in kept} | {
        "kind": "explainer", "channels": [4, 8],
        "files": {"explainer.safetensors": {"bytes": 1, "sha256": "0" * 64}},
    }  # fmt: skip
    assert GraphManifest.model_validate(graph)
    assert ExplainerManifest.model_validate(explainer)
    return {GraphManifest: graph, ExplainerManifest: explainer}


def refusal(body, length):
    """Read a request; returns why it is none, or None."""
    try:
        read_request(body, length)
    except InvalidInputError as error:
        return str(error)
    return None


@often
@given(body=st.binary(max_size=300), length=st.none() | st.text(max_size=8))
def test_bytes_of_any_kind_are_no_request_or_one(body, length):
    assert len(refusal(body, length) or "read") < 2000


@often
@given(document=documents)
def test_json_of_any_shape_is_no_request_or_one(document):
    said = refusal(json.dumps({"inputs": document}).encode(), None)
    assert said is None or said.startswith(("Not a request", "Input"))


@often
@given(text=st.text(max_size=40))
def test_a_class_is_found_or_refused(text):
    record = ClassifierRecord(
        name="n", num_classes=3, class_names=["cat", "7", "дом"],
        weights={"source": "s", "sha256": "0"},
    )  # fmt: skip
    try:
        index = find_class(record, text)
    except InvalidInputError:
        assert text not in record.class_names
        return
    assert 0 <= index < 3
    assert record.class_names[index] == text or text.isdecimal()


def test_a_name_that_several_classes_have_is_no_choice():
    weights = {"source": "s", "sha256": "0"}
    names = ["crane", "cat", "crane"]
    record = ClassifierRecord(name="n", num_classes=3, class_names=names, weights=weights)
    with pytest.raises(InvalidInputError, match=r"2 classes are called 'crane': .* 0, 2"):
        find_class(record, "crane")
    assert find_class(record, "2") == 2


@often
@given(
    width=st.integers(1, 5000), height=st.integers(1, 5000), resize=st.integers(8, 600),
    squash=st.booleans(),
)  # fmt: skip
def test_resized_photos_hold_the_crop(width, height, resize, squash):
    one = Preprocessing(input_size=(resize, resize), resize=resize, squash=squash)
    try:
        size = one.resized_size(width, height)
    except InvalidInputError:
        assert max(width, height) / min(width, height) > 10  # long and narrow
        return
    assert min(size) == resize
    if not squash:  # the photo's shape, but for rounding
        assert abs(size[0] * height - size[1] * width) <= max(width, height)


@often
@given(
    values=st.lists(st.floats(-12, 12, width=32), min_size=2, max_size=6),
    head=st.sampled_from(["softmax", "sigmoid"]),
)
def test_probabilities_make_their_logits_again(values, head):
    given = probabilities(np.array([values], np.float32), head)
    np.testing.assert_allclose(probabilities(logits_of(given, head), head), given, atol=1e-5)
