"""From photos to class, probability and map: the public way to run an exported graph or a plan.

Needs NumPy, Pillow and ONNX Runtime (or TensorRT), no PyTorch.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from engines.explanation import Explanation
from engines.notebook import explanation_html
from engines.onnx_runtime import OnnxRuntime
from engines.photo_input import Photo, as_list, decoded
from engines.plan import PlanManifest, holds_plan
from engines.runtime import Arrays, Runtime
from ptame_deploy.artifact_files import read_manifest
from ptame_deploy.artifacts import GRAPH_FILE, GRAPH_MANIFEST, GraphManifest
from ptame_deploy.errors import CheckFailedError, InvalidInputError
from ptame_deploy.heads import probabilities
from ptame_deploy.onnx_session import CPU_PROVIDER
from ptame_deploy.preprocessing import to_float


class Explainer:
    """An exported graph or a plan, ready to explain photos.

    Attributes:
        manifest: describes the graph; of a plan, the one that it was built from.
        runtime: runs it.
        batch_size: photos that run together at most.
        plan: describes the plan, where it is one.
    """

    def __init__(
        self,
        manifest: GraphManifest,
        runtime: Runtime,
        *,
        batch_size: int = 8,
        plan: PlanManifest | None = None,
    ) -> None:
        """Use a graph or a plan that a runtime has opened.

        Args:
            manifest: describes the graph.
            runtime: runs it.
            batch_size: photos that run together at most; fewer where a plan takes fewer.
            plan: describes the plan, where it is one.

        Raises:
            InvalidInputError: a batch size under 1.
        """
        if batch_size < 1:
            message = f"The batch size must be at least 1, got {batch_size}."
            raise InvalidInputError(message)
        self.manifest = manifest
        self.runtime = runtime
        self.batch_size = min(batch_size, plan.profile.max_batch) if plan else batch_size
        self.plan = plan

    @classmethod
    def load(
        cls,
        directory: str | Path,
        *,
        providers: Sequence[str] = (CPU_PROVIDER,),
        threads: int = 0,
        batch_size: int = 8,
    ) -> Self:
        """Load what ``ptame export`` or ``ptame build`` wrote, after its hashes were checked.

        Args:
            directory: holds ``model.onnx`` and ``model.json``, or ``model.plan`` and
                ``model.plan.json``.
            providers: ONNX Runtime's execution providers in order of preference; of graphs only.
            threads: threads within an operator, 0 for one a core; of graphs only.
            batch_size: photos that run together at most; fewer where a plan takes fewer.

        Raises:
            InvalidInputError: there is no artifact, or providers or threads for a plan.
            ArtifactError: it is corrupt, or a plan for another TensorRT or GPU.
            MissingRequirementError: ONNX Runtime, a provider, TensorRT or a GPU is not there.
        """
        directory = Path(directory)
        if holds_plan(directory):
            if tuple(providers) != (CPU_PROVIDER,) or threads:
                message = (
                    f"{directory} holds a TensorRT plan: a provider and threads can be chosen for "
                    "graphs only, which ONNX Runtime runs."
                )
                raise InvalidInputError(message)
            from engines.tensorrt.open_plan import open_plan

            plan, engine = open_plan(directory)
            assert plan is not None  # only trust would let a plan without JSON pass
            return cls(plan.graph, engine, batch_size=batch_size, plan=plan)
        manifest = read_manifest(directory, GRAPH_MANIFEST, GraphManifest)
        runtime = OnnxRuntime(directory / GRAPH_FILE, providers=providers, threads=threads)
        runtime.check_border(manifest)
        return cls(manifest, runtime, batch_size=batch_size)

    def __call__(
        self,
        images: Photo | Sequence[Photo] | NDArray[np.uint8],
        class_index: Sequence[int]
        | Sequence[Sequence[int]]
        | NDArray[np.integer[Any]]
        | None = None,
    ) -> Explanation:
        """Classify and explain photos.

        Args:
            images: one photo or several: paths, Pillow images, or uint8 RGB arrays (H, W, 3) of
                any size; also an array (B, H, W, 3). Each is resized and cropped as the
                classifier expects.
            class_index: only for graphs exported with ``--classes input``: the classes to
                explain, K for every photo alike, or (B, K).

        Raises:
            InvalidInputError: no photos, one that cannot be decoded, or classes that do not fit.
            CheckFailedError: the graph answers with NaN or infinity, or a plan fails to run.
            MissingRequirementError: a plan needs more GPU memory than there is.
            CudaError: CUDA fails while a plan runs.
        """
        photos = as_list(images)
        asked = self.classes_for(class_index, len(photos))
        parts = []
        for start in range(0, len(photos), self.batch_size):
            stop = start + self.batch_size
            prepared = np.stack([self.prepare(photo) for photo in photos[start:stop]])
            parts.append(
                self.explain_prepared(prepared, None if asked is None else asked[start:stop])
            )
        draw = partial(explanation_html, photos=photos, manifest=self.manifest)
        if len(parts) == 1:
            return replace(parts[0], _draw=draw)
        against = [part.against for part in parts if part.against is not None]
        return Explanation(
            class_index=np.concatenate([part.class_index for part in parts]),
            probability=np.concatenate([part.probability for part in parts]),
            saliency=np.concatenate([part.saliency for part in parts]),
            logits=np.concatenate([part.logits for part in parts]),
            class_names=self.manifest.classifier.class_names,
            against=np.concatenate(against) if against else None,
            _draw=draw,
        )

    def prepare(self, photo: Photo) -> NDArray[np.uint8]:
        """Resize and crop one photo to uint8 (H, W, 3) as the classifier expects it.

        Raises:
            InvalidInputError: not a photo, or one that cannot be decoded.
        """
        return self.manifest.preprocessing.apply(decoded(photo))

    def classes_for(self, class_index: Any, count: int) -> NDArray[np.int64] | None:
        """Check the asked classes and spread them over a batch.

        Args:
            class_index: integers (K,) for every photo alike, or (B, K); None for none.
            count: B.

        Returns:
            (B, K) int64, or None where the graph chooses the classes itself.

        Raises:
            InvalidInputError: classes that are out of range, of another length, or that the
                graph does not take.
        """
        if not self.manifest.takes_classes:
            if class_index is not None:
                message = (
                    f"This graph explains {self.manifest.explained}. To choose classes, export it "
                    "with --classes input."
                )
                raise InvalidInputError(message)
            return None
        if class_index is None:
            message = "This graph was exported with --classes input: say which classes to explain."
            raise InvalidInputError(message)
        asked = np.asarray(class_index)
        if asked.dtype.kind not in "iu" or asked.ndim not in (1, 2) or asked.size == 0:
            got = f"{asked.dtype} {asked.shape}"
            message = f"Classes must be integers of shape (K,) or (B, K), got {got}."
            raise InvalidInputError(message)
        if asked.ndim == 2 and len(asked) != count:
            message = f"Classes were given for {len(asked)} photos, there are {count}."
            raise InvalidInputError(message)
        limit = self.manifest.classifier.num_classes
        if asked.shape[-1] > limit:
            message = f"{asked.shape[-1]} classes were asked for, the classifier has {limit}."
            raise InvalidInputError(message)
        if self.manifest.contrast == "given" and asked.shape[-1] < 2:
            message = (
                "This graph holds each class against the one given after it: give at least two "
                "(of A and B: what speaks for A and not for B, and the other way round)."
            )
            raise InvalidInputError(message)
        if asked.min() < 0 or asked.max() >= limit:
            wrong = asked[(asked < 0) | (asked >= limit)].flat[0]
            message = f"Class {wrong} does not exist: the classifier has classes 0 to {limit - 1}."
            raise InvalidInputError(message)
        shape = (count, asked.shape[-1])
        return np.ascontiguousarray(np.broadcast_to(asked, shape), dtype=np.int64)

    def explain_prepared(
        self, images: NDArray[np.uint8], class_index: NDArray[np.int64] | None = None
    ) -> Explanation:
        """Run one batch that `prepare` made.

        Args:
            images: uint8 (B, H, W, 3) of the classifier's input size.
            class_index: (B, K) int64 where the graph takes classes.

        Raises:
            InvalidInputError: images or classes of a wrong shape or type.
            CheckFailedError: the graph answers with NaN or infinity, or a plan fails to run.
            MissingRequirementError: a plan needs more GPU memory than there is.
            CudaError: CUDA fails while a plan runs.
        """
        outputs = self.run(self.inputs_of(images, class_index))
        return self.explanation_of(outputs, class_index)

    def inputs_of(
        self, images: NDArray[np.uint8], class_index: NDArray[np.int64] | None = None
    ) -> Arrays:
        """Return what the graph takes, by name; see `explain_prepared`."""
        inputs: Arrays = {"image": images if self.manifest.takes_uint8 else to_float(images)}
        if class_index is not None:
            inputs["class_index"] = class_index
        return inputs

    def explanation_of(
        self, outputs: Arrays, class_index: NDArray[np.int64] | None = None
    ) -> Explanation:
        """Put the graph's answers together.

        Args:
            outputs: by name, see `run`.
            class_index: (B, K) where the graph was given the classes.
        """
        chosen = outputs["class_index"] if class_index is None else class_index
        every = probabilities(outputs["logits"], self.manifest.classifier.head)
        probability = np.take_along_axis(every, chosen, axis=1)
        return Explanation(
            class_index=chosen,
            probability=probability,
            saliency=outputs["saliency"],
            logits=outputs["logits"],
            class_names=self.manifest.classifier.class_names,
            against=self._against(outputs["logits"], chosen),
        )

    def _against(
        self, logits: NDArray[np.float32], chosen: NDArray[np.int64]
    ) -> NDArray[np.int64] | None:
        """Return what the graph holds each class against; see `ptame_deploy.artifacts.Contrast`."""
        contrast = self.manifest.contrast
        if contrast is None:
            return None
        if contrast == "given":
            return np.roll(chosen, -1, axis=1)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :2]
        return np.where(chosen == order[:, :1], order[:, 1:], order[:, :1])

    def run(self, inputs: Arrays) -> Arrays:
        """Run one batch of the graph's own inputs.

        A batch is filled up to the smallest that a plan takes, and the filling's answers are left
        out: those of one photo do not depend on the others of its batch.

        Args:
            inputs: by name, batch first.

        Raises:
            InvalidInputError: an input of a wrong name, shape or type.
            CheckFailedError: the graph answers with NaN or infinity, or a plan fails to run.
            MissingRequirementError: a plan needs more GPU memory than there is.
            CudaError: CUDA fails while a plan runs.
        """
        count = len(inputs["image"])
        missing = self.plan.profile.min_batch - count if self.plan else 0
        if missing > 0:
            inputs = {
                name: np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
                for name, array in inputs.items()
            }
        outputs = {name: array[:count] for name, array in self.runtime.run(inputs).items()}
        _refuse_not_finite(outputs)
        return outputs


def _refuse_not_finite(outputs: Arrays) -> None:
    for name in ("logits", "saliency"):
        values = outputs[name].reshape(len(outputs[name]), -1)
        finite = np.asarray(np.isfinite(values).all(axis=1))
        if not finite.all():
            message = (
                f"The graph answers {(~finite).sum()} of {len(finite)} photos with {name} that are "
                "NaN or infinite. Its classifier's weights are broken, or its precision is too low "
                "for this photo: use the FP32 graph."
            )
            raise CheckFailedError(message)
