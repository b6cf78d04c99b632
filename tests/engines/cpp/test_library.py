"""The library as others use it: installed, found by CMake, called from C."""

import json

import numpy as np
import pytest
from PIL import Image

from ptame_deploy import Explainer
from ptame_deploy.cli import run

pytestmark = pytest.mark.integration

PROJECT = """
cmake_minimum_required(VERSION 3.18)
project(own LANGUAGES C CXX)
find_package(ptame REQUIRED)
add_executable(own own.c)
target_link_libraries(own PRIVATE ptame::ptame)
set_target_properties(own PROPERTIES LINKER_LANGUAGE CXX)
target_link_options(own PRIVATE -fsanitize=address,undefined)
"""
PROGRAM = r"""
#include <ptame/ptame.h>
#include <stdio.h>

int main(int count, char** words) {
  ptame_explainer* explainer = NULL;
  ptame_result* result = NULL;
  if (count != 3) return 9;
  if (ptame_explain_file(NULL, words[2], NULL, 0, &result) != PTAME_INVALID_INPUT) return 10;
  if (ptame_open(NULL, 0, &explainer) != PTAME_INVALID_INPUT || explainer) return 11;
  if (ptame_open("/no/such/folder", 0, &explainer) != PTAME_INVALID_INPUT) return 12;
  fprintf(stderr, "%s\n", ptame_last_error());
  if (ptame_open(words[1], 1, &explainer) != PTAME_OK) return 13;
  if (*ptame_last_error()) return 14;
  if (ptame_explain_file(explainer, "/no/such/photo", NULL, 0, &result) == PTAME_OK || result)
    return 15;
  if (ptame_explain_file(explainer, words[2], NULL, 0, &result) != PTAME_OK) return 16;
  for (size_t rank = 0; rank < ptame_class_count(result); ++rank) {
    int height = 0, width = 0;
    const float* map = ptame_saliency(result, rank, &height, &width);
    double sum = 0;
    for (int i = 0; i < height * width; ++i) sum += map[i];
    printf("[%lld, \"%s\", %.7f, %d, %d, %.6f]\n", (long long)ptame_class_index(result, rank),
           ptame_class_name(result, rank), ptame_probability(result, rank), height, width, sum);
  }
  if (ptame_class_index(result, 99) != -1 || ptame_class_name(result, 99) ||
      ptame_saliency(result, 99, NULL, NULL) || ptame_class_count(NULL))
    return 17;
  ptame_free(result);
  const unsigned char pixel[3] = {1, 2, 3};
  if (ptame_explain_rgb(explainer, pixel, 1, 0, NULL, 0, &result) != PTAME_INVALID_INPUT) return 18;
  if (ptame_explain_rgb(explainer, pixel, 1, 1, NULL, 0, &result) != PTAME_OK) return 19;
  ptame_free(result);
  const int64_t classes[1] = {0};
  if (ptame_explain_rgb(explainer, pixel, 1, 1, classes, 1, &result) != PTAME_INVALID_INPUT)
    return 20;
  ptame_free(result);
  ptame_close(explainer);
  ptame_close(NULL);
  ptame_free(NULL);
  return 0;
}
"""


@pytest.fixture(scope="module")
def installed(built, cmake, tmp_path_factory):
    prefix = tmp_path_factory.mktemp("prefix")
    cmake("--install", built.folder, "--prefix", prefix)
    return prefix


def test_a_c_program_finds_it_and_answers_as_python(
    built, cmake, installed, tiny_artifact, tmp_path
):
    (tmp_path / "CMakeLists.txt").write_text(PROJECT)
    (tmp_path / "own.c").write_text(PROGRAM)
    cmake(
        "-S", tmp_path, "-B", tmp_path / "build", "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={installed}"
    )
    cmake("--build", tmp_path / "build")
    photo = tmp_path / "photo.png"
    pixels = np.random.default_rng(0).integers(0, 255, (80, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photo)
    done = built.run(tiny_artifact, photo, program=tmp_path / "build/own")
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert "/no/such/folder does not exist." in done.stderr
    expected = Explainer.load(tiny_artifact)(photo)
    for rank, line in enumerate(done.stdout.splitlines()):
        index, name, probability, height, width, total = json.loads(line)
        assert index == expected.class_index[0, rank]
        assert name == expected.label(0, rank)
        assert probability == pytest.approx(expected.probability[0, rank], abs=1e-4)
        assert [height, width] == list(expected.saliency.shape[2:])
        assert total == pytest.approx(expected.saliency[0, rank].sum(), abs=0.02)


def test_the_installed_program_runs(built, installed, tiny_artifact, tmp_path):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (70, 70), "red").save(photo)
    done = built.run(tiny_artifact, photo, program=installed / "bin/ptame-run")
    assert done.returncode == 0, done.stderr


def test_the_example_builds_and_runs(built, cmake, tiny_classes_artifact, tmp_path):
    project = tmp_path / "project"
    assert run(["cpp-example", str(tiny_classes_artifact), "-o", str(project)]) == 0
    names = ["CMakeLists.txt", "main.cpp", "model", "ptame"]
    assert sorted(path.name for path in project.iterdir()) == names
    options = [*built.arguments, "-DCMAKE_BUILD_TYPE=Debug"]
    cmake("-S", project, "-B", project / "build", *options)
    cmake("--build", project / "build", "--target", "example")
    photo = tmp_path / "photo.png"
    Image.new("RGB", (70, 70), "red").save(photo)
    done = built.run(photo, "3", "4", program=project / "build/example", cwd=project)
    assert done.returncode == 0, done.stderr
    expected = Explainer.load(tiny_classes_artifact)(photo, [3, 4])
    for rank, line in enumerate(done.stdout.splitlines()):
        assert line.startswith(f"{[3, 4][rank]} class {[3, 4][rank]}, probability ")
        probability = float(line.split(",")[1].split()[1])
        assert probability == pytest.approx(expected.probability[0, rank], abs=1e-4)
    assert built.run(photo, program=project / "build/example", cwd=project).returncode == 2


def test_an_example_takes_no_ones_place(tiny_artifact, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    assert run(["cpp-example", str(tiny_artifact), "-o", str(tmp_path / "mine")]) == 2
    assert "not empty" in capsys.readouterr().err
    assert run(["cpp-example", str(tmp_path), "-o", str(tmp_path / "new")]) == 2
    assert not (tmp_path / "new").exists()


def test_an_example_of_an_engine(engine, tmp_path, capsys):
    assert run(["cpp-example", str(engine), "-o", str(tmp_path / "project")]) == 0
    copied = sorted(path.name for path in (tmp_path / "project/model").iterdir())
    assert copied == ["model.plan", "model.plan.json"]
    assert "-DPTAME_BACKEND=tensorrt -DTENSORRT_ROOT=" in capsys.readouterr().err
    (engine / "model.plan").write_bytes(b"cut")
    assert run(["cpp-example", str(engine), "-o", str(tmp_path / "other")]) == 4
