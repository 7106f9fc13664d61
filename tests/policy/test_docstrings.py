"""Every public name says what the caller gets."""

import importlib
import inspect
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.policy.source_tree import PACKAGE, name_of, python_files


def modules() -> list[str]:
    """Return the name of every module of the package that has public names."""
    files = [path.relative_to(PACKAGE.parent) for path in python_files("src")]
    names = [path.with_suffix("").as_posix().replace("/", ".") for path in files]
    return [name.removesuffix(".__init__") for name in names]


def described_objects(module: ModuleType) -> Iterator[tuple[str, object]]:
    """Yield the functions and classes that `__all__` names, and the classes' public methods."""
    for name in getattr(module, "__all__", []):
        thing = getattr(module, name)
        if inspect.isroutine(thing) or inspect.isclass(thing):
            yield name, thing
        if inspect.isclass(thing) and thing.__module__.startswith("receptance"):
            for method, value in vars(thing).items():
                is_described = inspect.isfunction(value) or isinstance(
                    value, property | classmethod | staticmethod
                )
                if is_described and not method.startswith("_"):
                    yield f"{name}.{method}", value


def first_line(name: str, thing: object) -> str:
    """Return the first line of an object's own docstring; "" for one that Python made up."""
    doc = inspect.cleandoc(getattr(thing, "__doc__", None) or "")
    is_generated = doc.startswith(f"{name.split('.')[-1]}(")  # dataclasses and named tuples
    return "" if is_generated or not doc else doc.splitlines()[0]


@pytest.mark.parametrize("name", modules())
def test_every_public_name_has_a_docstring_of_one_first_sentence(name):
    module = importlib.import_module(name)
    assert first_line("", module), f"{name} has no docstring"
    lines = {each: first_line(each, thing) for each, thing in described_objects(module)}
    wrong = {each: line for each, line in lines.items() if not line.endswith((".", ":"))}
    assert wrong == {}
    assert [each for each, line in lines.items() if line.startswith("This ")] == []


def test_every_name_in_all_exists_once():
    for name in modules():
        module = importlib.import_module(name)
        names = list(getattr(module, "__all__", []))
        assert len(set(names)) == len(names), name
        assert [each for each in names if not hasattr(module, each)] == [], name


def test_there_is_something_to_check():
    assert "receptance.ops.wkv4" in modules()
    found = dict(described_objects(importlib.import_module("receptance.models")))
    assert {"RWKV4", "RWKV4.forward", "RWKV4Config.n_parameters", "State.load"} <= found.keys()
    assert name_of(PACKAGE) == "src/receptance"
