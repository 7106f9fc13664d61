"""`receptance doctor` tells what runs here, and ends with 1 where something should and does not."""

import dataclasses
import json

import receptance.diagnosis as diagnosis
from receptance.diagnosis import examine


def well():
    return dataclasses.replace(examine(), problems=[])


def test_a_machine_that_is_well_ends_with_0(receptance, monkeypatch):
    monkeypatch.setattr(diagnosis, "examine", well)
    result = receptance("doctor")

    assert result.code == 0
    assert result.stdout.endswith("all is well\n")
    assert "what runs on cpu" in result.stdout
    table = [line for line in result.stdout.splitlines() if line.startswith("│")]
    assert max(map(len, table)) <= 100


def test_a_problem_is_told_last_and_ends_with_1(receptance, monkeypatch):
    sick = dataclasses.replace(well(), problems=["the extension is not built; make setup"])
    monkeypatch.setattr(diagnosis, "examine", lambda: sick)
    result = receptance("doctor")

    assert result.code == 1
    assert result.stdout.endswith("problem: the extension is not built; make setup\n")
    assert "all is well" not in result.stdout


def test_json_is_one_document_with_the_same_end(receptance, monkeypatch):
    sick = dataclasses.replace(well(), problems=["x"])
    monkeypatch.setattr(diagnosis, "examine", lambda: sick)
    result = receptance("doctor", "--json")

    assert result.code == 1
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["problems"] == ["x"]
    assert {"wkv4", "rwkv4_step"} <= {each["op"] for each in document["ops"]}
    assert set(document) == {each.name for each in dataclasses.fields(sick)}
