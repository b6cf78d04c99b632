"""What MkDocs cannot do by itself: sections of the README, the command line, the changelog.

The README says a thing once, and its commands run as tests: pages show its sections by
links of their own line, ``[README: Heading](../README.md#heading)``, which lead there where the
pages are read as files. The command line's page is made from the
commands themselves.
"""

import posixpath
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
_SECTION = re.compile(r"^\[README: (.+?)\]\([./]*README\.md#[\w-]+\)$", re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|mailto:)([^)#]*)(#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Add pages that are made from something else."""
    files.append(File.generated(config, "reference/cli.md", content=_command_line()))
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "reference/changelog.md", content=changelog))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Put the README's sections where they are asked for."""
    where = page.file.src_uri
    return _SECTION.sub(lambda match: _linked(section(match[1]), where), markdown)


def section(heading: str) -> str:
    """Return a section of the README, its subsections included, without its heading.

    Raises:
        PluginError: there is none.
    """
    text = README.read_text(encoding="utf-8")
    headings = [*_headings(text)]
    for position, (level, title, _, end) in enumerate(headings):
        if title == heading:
            later = [start for depth, _, start, _ in headings[position + 1 :] if depth <= level]
            return text[end : later[0] if later else len(text)].strip()
    message = f"README.md has no section {heading!r}"
    raise PluginError(message)


def _headings(text: str) -> list[tuple[int, str, int, int]]:
    """Return (level, title, start, end) of headings, none of them in a block of code."""
    found, inside, start = [], False, 0
    for line in text.splitlines(keepends=True):
        if line.startswith("```"):
            inside = not inside
        level = len(line) - len(line.lstrip("#"))
        if level and not inside and line[level] == " ":
            found.append((level, line.strip("# \n"), start, start + len(line)))
        start += len(line)
    return found


def _linked(text: str, page: str) -> str:
    """Lead the README's links from a page to where they led, as far as the site has that."""

    def lead(match: re.Match[str]) -> str:
        picture, words, target = match[1], match[2], match[3]
        if target.startswith("docs/"):
            folder = posixpath.dirname(page) or "."
            return f"{picture}[{words}]({posixpath.relpath(target.removeprefix('docs/'), folder)})"
        return f"{words} (`{target}`)" if target else words  # a file of the project; a section

    return _LINK.sub(lead, re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL))


def _command_line() -> str:
    """Return the commands' own help as Markdown."""
    command = [
        sys.executable,
        "-m",
        "typer",
        "ptame_deploy.cli",
        "utils",
        "docs",
        "--name",
        "ptame",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        message = f"The command line's page cannot be made: {done.stderr.strip()}"
        raise PluginError(message)
    return done.stdout
