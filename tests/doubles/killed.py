"""Run a command again and again, each time killed a little later: at a change of a folder.

    python killed.py FOLDER COMMAND...

Reads numbers of changes from standard input, a line each, and prints the exit status of a run that
was killed just before that change; for a number that is never reached, it prints ``0 CHANGES``. A
change is what Python's audit hooks see before it happens. Processes are forked, since importing
torch takes longer than most commands here.
"""

import os
import signal
import sys

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree")


def main() -> None:
    folder, *command = sys.argv[1:]
    import onnx
    import torch

    import trainer.few  # noqa: F401

    assert onnx
    torch.set_num_threads(1)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the command says is no answer
    for line in sys.stdin:
        reader, writer = os.pipe()
        child = os.fork()
        if not child:
            _run(folder, int(line), command, writer)
        os.close(writer)
        _, status = os.waitpid(child, 0)
        with os.fdopen(reader) as changes:
            answers.write(f"{os.waitstatus_to_exitcode(status)} {changes.read()}\n")
        answers.flush()


def _run(folder: str, point: int, command: list[str], writer: int) -> None:
    """Run in a child, which ends here."""
    import ptame_deploy.cli

    seen = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_ACCMODE
        if not writes and event not in CHANGES:
            return
        if not any(folder in str(argument) for argument in arguments[:2]):
            return
        if seen == point:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    sys.addaudithook(watch)
    code = ptame_deploy.cli.run(command)
    os.write(writer, str(seen).encode())
    os._exit(code)


if __name__ == "__main__":
    main()
