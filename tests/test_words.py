"""Plain words: a docstring begins with a verb where something is done, and with a noun where something is."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

FOLDERS = ("stream_erc", "models/erc_models", "clients", "scripts")

NO_VERB = frozenset(
    "a all an and any as at both by each every for from here how in is it its no not nothing of on one only "
    "or other some so such that the their there these they this those to two what when where whether which "
    "who whose why with without".split()
)
"""What no sentence begins with that says what a function does."""

PUBLISHED = "stream_erc/protocol/messages.py"
"""Its classes' docstrings are descriptions of the published JSON Schema, which stays as it is."""

RIDDLES = frozenset("how nothing what when where which who whose why".split())
"""What no description of a class, a value or a module begins with. (A flag may say whether.)"""

Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module


def python_files(folder: str) -> Iterator[Path]:
    """The Python files of a folder, and its scripts."""
    for path in sorted((ROOT / folder).rglob("*")):
        if "node_modules" in path.parts or not path.is_file():
            continue
        if path.suffix == ".py" or (folder == "scripts" and b"python" in path.read_bytes().split(b"\n")[0]):
            yield path


def is_value(node: ast.AST) -> bool:
    """Whether a function is read like an attribute."""
    names = [getattr(d, "attr", getattr(d, "id", "")) for d in getattr(node, "decorator_list", [])]
    return bool({"property", "cached_property", "fixture", "setter"} & set(names))


def riddles(source: str) -> Iterator[str]:
    """The docstrings of a file that do not begin as they should, with their lines."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, Node) or not (text := ast.get_docstring(node)):
            continue
        first = text.split()[0].strip("`\"'.,:;()*").lower()
        does = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_value(node)
        if first in (NO_VERB if does else RIDDLES):
            line = getattr(node, "lineno", 1)
            yield f"{line}: {text.splitlines()[0]}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_docstring_begins_with_what_its_reader_looks_for(folder: str) -> None:
    found = {}
    for path in python_files(folder):
        if path == ROOT / PUBLISHED:
            continue
        if lines := list(riddles(path.read_text(encoding="utf-8"))):
            found[str(path.relative_to(ROOT))] = lines
    assert found == {}


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    """What is heard."""',
        'def f():\n    """The samples, (N,)."""',
        'async def f():\n    """Whether it is there."""',
        'class C:\n    """How it ends."""',
        'class C:\n    @property\n    def f(self):\n        """What waits."""',
        '"""Where sessions are kept."""',
    ],
)
def test_a_riddle_is_found(source: str) -> None:
    assert list(riddles(source))


@pytest.mark.parametrize(
    "source",
    [
        'def f():\n    """Return the samples, (N,)."""',
        'class C:\n    """A queue."""\n    @property\n    def f(self):\n        """Whether it is full."""',
        'def f():\n    """``Return`` as it is."""',
    ],
)
def test_plain_words_are_none(source: str) -> None:
    assert list(riddles(source)) == []
