"""The tests mirror the package, so that the test of anything is found without a search."""

import ast

from tests.policy.source_tree import PACKAGE, ROOT, name_of, parse, python_files

# Folders of tests that cross rooms and have no twin.
CROSSING = {"laws", "policy", "assets", "faults", "hostile", "paper"}
# Files that may do nothing but name what is elsewhere, and then need no tests.
PASSAGES = {"__init__.py", "__main__.py"}


def twin(source: str) -> str:
    """Return the test file of a file of the package, both from the root of the project.

    An `__init__.py` that does more than gather names is tested under the name of its folder.
    """
    *folders, name = source.removeprefix("src/receptance/").removesuffix(".py").split("/")
    if name == "__init__":
        name = folders[-1] if folders else "receptance"
    return "/".join(["tests", *folders, f"test_{name}.py"])


def test_the_twin_of_a_file_is_where_a_reader_looks():
    assert twin("src/receptance/errors.py") == "tests/test_errors.py"
    assert twin("src/receptance/models/state.py") == "tests/models/test_state.py"
    assert twin("src/receptance/models/__init__.py") == "tests/models/test_models.py"
    assert twin("src/receptance/ops/wkv4/__init__.py") == "tests/ops/wkv4/test_wkv4.py"
    assert twin("src/receptance/__init__.py") == "tests/test_receptance.py"


def only_gathers_names(tree: ast.Module) -> bool:
    return not any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in tree.body
    )


def test_every_file_of_the_package_has_its_tests():
    missing = {
        name_of(path): twin(name_of(path))
        for path in python_files("src")
        if not (path.name in PASSAGES and only_gathers_names(parse(path)))
        and not (ROOT / twin(name_of(path))).is_file()
    }
    assert missing == {}


def test_every_folder_of_tests_is_a_folder_of_the_package():
    folders = {path.parent.relative_to(ROOT / "tests") for path in python_files("tests")}
    rooms = [each for each in folders if each.parts and each.parts[0] not in CROSSING]
    assert [str(each) for each in rooms if not (PACKAGE / each).is_dir()] == []
