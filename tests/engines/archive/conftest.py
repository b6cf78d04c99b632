import pytest

from engines.archive import explain_archive as archive
from engines.archive.manifest import Settings
from engines.archive.worker import ArchiveWorker, Report, Task
from engines.artifact import Artifact
from ptame_deploy.onnx_session import PROVIDERS

GIVEN = {
    "map_dtype": "float16",
    "class_index": None,
    "shard_size": 4,
    "image_column": None,
    "key_column": None,
}


@pytest.fixture
def make_archive(tiny_artifact):
    """Make an archive in this process, without Ray; returns the summary."""

    def make(sources, output, *, model=tiny_artifact, changed=None, stop_after=None):
        found = Artifact.read(model)
        chosen = Settings(**(GIVEN | (changed or {})))
        plan = archive.plan_archive([str(source) for source in sources], found, str(output), chosen)
        task = Task(
            found.directory,
            plan.manifest.graph_sha256,
            plan.folder.location,
            chosen,
            PROVIDERS["cpu"],
            threads=1,
            batch_size=3,
        )
        worker = ArchiveWorker(task)

        class Here:
            def __enter__(self):
                return self.run

            def __exit__(self, *_):
                return None

            def run(self, shards):
                for shard in shards[:stop_after]:
                    yield Report(**worker({"shard": shard}))
                if stop_after is not None:
                    raise KeyboardInterrupt

        return archive.explain_archive(plan, Here)

    return make


@pytest.fixture
def photos(tmp_path, make_photos):
    """Ten photos, two of which are none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    make_photos(folder, 8)
    (folder / "03a.jpg").write_text("no photo")
    (folder / "07a.png").write_bytes((folder / "07.png").read_bytes()[:60])
    return folder
