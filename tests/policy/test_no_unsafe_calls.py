"""No file can run code: nothing that it holds is unpickled, evaluated or passed to a shell."""

import ast
from collections.abc import Iterator

import pytest

from tests.policy.source_tree import name_of, parse, python_files

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {
    "os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "torch.hub.load", "torch.jit.load",
    "torch.package.PackageImporter", "tempfile.mktemp",
}  # fmt: skip


def objections(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of everything that could run what a file holds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (
                (node.lineno, a.name) for a in node.names if a.name.split(".")[0] in MODULES
            )
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in MODULES:
            # To catch an error is harmless, and so is to write.
            if any(a.name != "Pickler" and not a.name.endswith("Error") for a in node.names):
                yield node.lineno, node.module or ""
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if _is_unsafe(name, {each.arg: each.value for each in node.keywords}):
                yield node.lineno, name


def _is_unsafe(name: str, keywords: dict[str | None, ast.expr]) -> bool:
    if name in BUILTINS or name in CALLS:
        return True
    if name == "torch.load":
        return not _is_constant(keywords.get("weights_only"), value=True)
    if name.split(".")[-1] in ("load", "memmap") and "allow_pickle" in keywords:
        return not _is_constant(keywords["allow_pickle"], value=False)
    return "shell" in keywords and not _is_constant(keywords["shell"], value=False)


def _is_constant(node: ast.expr | None, *, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "from pickle import Unpickler as U",
        "import joblib.numpy_pickle",
        "eval(text)",
        "exec(text)",
        "__import__(name)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=trusted)",
        "np.load(path, allow_pickle=True)",
        "os.system(command)",
        "subprocess.run(command, shell=True)",
        "yaml.load(text)",
    ],
)
def test_what_could_run_a_file_is_seen(code):
    assert len(list(objections(ast.parse(code)))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "model.eval()",
        "re.compile(pattern)",
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "np.load(path, allow_pickle=False)",
        "json.load(file)",
        "from pickle import UnpicklingError",
        "from pickle import Pickler",
        "subprocess.run([program], shell=False)",
        "torch.compile(model)",
    ],
)
def test_what_cannot_is_not(code):
    assert list(objections(ast.parse(code))) == []


def test_the_package_runs_nothing_that_a_file_holds():
    found = {
        f"{name_of(path)}:{line}": name
        for path in python_files("src")
        for line, name in objections(parse(path))
    }
    assert found == {}
