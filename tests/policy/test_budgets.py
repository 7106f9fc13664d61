"""A file is read in one sitting, a function on one screen."""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.policy.source_tree import name_of, parse, project_files, python_files

FILE_LINES = 400
FUNCTION_LINES = 60  # the docstring is not counted: a complete one may be long

HAND_WRITTEN = {".py", ".cpp", ".h", ".hpp"}


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function has, without its docstring."""
    first = function.body[0]
    is_docstring = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if is_docstring else 0
    return (function.end_lineno or 0) - function.lineno + 1 - docstring


def long_functions(path: Path) -> Iterator[str]:
    for node in ast.walk(parse(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = code_lines(node)
            if length > FUNCTION_LINES:
                yield f"{name_of(path)}:{node.lineno} {node.name}: {length} lines"


def test_no_file_is_longer_than_its_budget():
    lengths = {
        name_of(path): len(path.read_text(encoding="utf-8").splitlines())
        for path in project_files()
        if path.suffix in HAND_WRITTEN
    }
    assert {name: length for name, length in lengths.items() if length > FILE_LINES} == {}


def test_no_function_is_longer_than_its_budget():
    assert [each for path in python_files() for each in long_functions(path)] == []


def test_a_docstring_is_not_counted():
    (function,) = ast.parse('def f(x):\n    """One.\n\n    Two.\n    """\n    return x').body
    assert isinstance(function, ast.FunctionDef)
    assert code_lines(function) == 2
