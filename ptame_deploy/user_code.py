"""The code of users, by import string: ``package.module:function``, ``a/file.py:function``."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from ptame_deploy.errors import InvalidInputError, PtameError, reason_of
from ptame_deploy.vision import import_torchvision


def import_function(name: str, what: str) -> Callable[..., Any]:
    """Import a function.

    Args:
        name: the import string.
        what: it is for, for errors: ``Backbone``.

    Raises:
        InvalidInputError: it cannot be imported, or cannot be called.
    """
    source, _, attribute = name.rpartition(":")
    import_torchvision()  # the user's module may import it too, and must find it whole
    with foreign_code(f"{what} {name!r} cannot be imported or made"):
        module = _import_file(source) if source.endswith(".py") else importlib.import_module(source)
    found = getattr(module, attribute, None)
    if found is None:
        message = f"{what} {name!r}: {source} has no {attribute!r}."
        raise InvalidInputError(message)
    if not callable(found):
        message = f"{what} {name!r} is not a function."
        raise InvalidInputError(message)
    return found  # type: ignore[no-any-return]


def needs_arguments(function: Callable[..., Any]) -> bool:
    """Whether a function cannot be called without arguments, as far as it says."""
    try:
        inspect.signature(function).bind()
    except TypeError:
        return True
    except ValueError:  # a compiled one says nothing
        return False
    return False


@contextmanager
def foreign_code(failure: str) -> Iterator[None]:
    """Tell a failure of the user's own code from one of ours.

    Args:
        failure: what it means, as the error begins.
    """
    try:
        yield
    except (PtameError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        reason = reason_of(error)
        message = f"{failure}: {type(error).__name__}: {reason}"
        raise InvalidInputError(message) from error


def _import_file(source: str) -> ModuleType:
    path = Path(source).resolve()
    if not path.is_file():
        message = f"{source} does not exist."
        raise InvalidInputError(message)
    # Under a name of its own: a user's onnx.py must not stand in for the package.
    spec = importlib.util.spec_from_file_location(f"_ptame_user_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up here
    sys.path.append(str(path.parent))  # for what lies beside the file
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module
