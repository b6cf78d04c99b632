"""Nothing is fetched that was not asked for: no command misses the connections that are refused."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.integration
# Refuses in the interpreter and in C: name look-ups, and every socket but local ones.
FORBID = """
import socket
import sys

def refuse(*words, **_):
    with open({log!r}, "a") as log:
        print("CONNECTION", *map(repr, words), file=log)
    raise OSError("the test forbids connections")

class Closed(socket.socket):
    def connect(self, address):
        if self.family != socket.AF_UNIX:
            refuse(address)
        return super().connect(address)
    connect_ex = connect

socket.socket = Closed
socket.getaddrinfo = socket.gethostbyname = socket.create_connection = refuse
"""


@pytest.fixture
def ptame(tmp_path):
    """Run a command without network; returns its exit code and all that it tried to reach."""
    log = tmp_path / "connections.txt"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(FORBID.format(log=str(log)))
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])

    def call(*words):
        done = subprocess.run(
            [sys.executable, "-m", "ptame_deploy", *map(str, words)],
            capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path},
        )  # fmt: skip
        return done.returncode, log.read_text() if log.exists() else ""

    return call


def test_commands_stay_at_home(ptame, tiny_file, make_photos, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    make_photos(photos, 24)
    own = ["--backbone", f"{tiny_file}:build", "--input-size", "64", "--resize", "72"]
    auxiliary = ["--auxiliary", "mobilenet_v3_small", "--auxiliary-weights", "random",
                 "--auxiliary-size", "64"]  # fmt: skip
    model = tmp_path / "model"
    for words in (
        ["export", *own, *auxiliary, "-o", model],
        ["inspect", model],
        ["explain", model, photos, "-o", tmp_path / "explained"],
        ["quantize", model, photos, "-p", "fp16", "--allow-drift", "-o", tmp_path / "fp16"],
        ["train", photos, *own, *auxiliary, "--masks", "4", "--allow-no-gain",
         "-o", tmp_path / "explainer"],
        ["evaluate", "--model", model, "--images", photos, "--limit", "3", "--steps", "4",
         "--methods", "p-tame", "--sanity-photos", "0", "-o", tmp_path / "evaluation"],
        ["doctor"],
    ):  # fmt: skip
        code, reached = ptame(*words)
        assert reached == "", words
        assert code == 0, words


def test_a_download_that_was_asked_for_is_tried(ptame, tmp_path):
    code, reached = ptame("export", "--backbone", "timm:resnet10t.c3_in1k", "-o", tmp_path / "m")
    assert "CONNECTION" in reached
    assert code == 3
    assert not (tmp_path / "m").exists()
