"""The public surface: what `import receptance` offers, and what it costs."""

import subprocess
import sys

import pytest

import receptance


def test_the_public_names_are_these():
    assert receptance.__all__ == [
        "RWKV4",
        "Engine",
        "Generation",
        "LanguageModel",
        "RWKV4Config",
        "ReceptanceError",
        "Request",
        "SamplingParams",
        "State",
        "load",
        "load_tokenizer",
        "prepare",
    ]


@pytest.mark.parametrize("name", receptance.__all__)
def test_a_public_name_is_there_and_documented(name):
    assert getattr(receptance, name).__doc__
    assert name in dir(receptance)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'receptance' has no attribute 'lode'"):
        _ = receptance.lode


def test_importing_the_package_imports_no_torch():
    code = "import sys, receptance; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
