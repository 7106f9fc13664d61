"""What the confined process answers, seen from within it."""

import io
import json
import sys

import pytest

from receptance.serving.confinement import child


def test_a_template_writes_from_its_variables():
    write = child._template_job()
    assert write("{{ a }}-{{ a }}", {"a": "x"}, 3) == "x-x"
    with pytest.raises(Exception, match="at most 2 characters"):
        write("{{ a }}-{{ a }}", {"a": "x"}, 2)


def test_a_grammar_is_taken_or_told_why_not():
    check = child._grammar_job()
    assert check(json.dumps({"grammars": [{"lark_grammar": 'start: "a"'}]})) == ""
    assert "foo" in check(json.dumps({"grammars": [{"lark_grammar": "start: foo"}]}))


def test_every_line_gets_a_line_and_an_error_is_one_of_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(child, "_limit_memory", lambda _: None)
    monkeypatch.setattr(child.threading, "stack_size", lambda _: 0)
    monkeypatch.setitem(child._JOBS, "template", lambda: lambda text: text.upper())
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"text": "a"}\nnonsense\n{"text": "b"}\n'))
    answers = io.StringIO()
    monkeypatch.setattr(sys, "stdout", answers)
    child.main("template", 5.0, 1)
    said = [json.loads(line) for line in answers.getvalue().splitlines()]
    assert said[0] == {"text": "A"}
    assert said[1]["error"].startswith("JSONDecodeError")
    assert said[2] == {"text": "B"}
