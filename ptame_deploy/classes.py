"""Classes by name or number, as people write them."""

import difflib

from ptame_deploy.errors import InvalidInputError
from ptame_deploy.part_records import ClassifierRecord

_LISTED = 8  # names in an error


def find_class(classifier: ClassifierRecord, text: str) -> int:
    """Return the index of a class that is given by its name or its number.

    Raises:
        InvalidInputError: there is none (close names are listed), or several have that name.
    """
    names = classifier.class_names or []
    found = [index for index, name in enumerate(names) if name == text]
    if len(found) > 1:
        numbers = ", ".join(map(str, found))
        message = f"{len(found)} classes are called {text!r}: say which by its number: {numbers}."
        raise InvalidInputError(message)
    if found:
        return found[0]
    if text.isdecimal() and len(text) < 10 and int(text) < classifier.num_classes:
        return int(text)
    close = difflib.get_close_matches(text, names, n=3)
    hint = f" Did you mean {', '.join(close)}?" if close else ""
    known = ""
    if names:
        more = ", ..." if len(names) > _LISTED else ""
        known = f", or names: {', '.join(names[:_LISTED])}{more}"
    message = f"No class {text!r}; there are 0 to {classifier.num_classes - 1}{known}.{hint}"
    raise InvalidInputError(message)
