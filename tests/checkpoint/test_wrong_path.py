"""A wrong path is met with the nearest that exists, and a folder with the models in it."""

from pathlib import Path

import pytest

from receptance.checkpoint.wrong_path import nearest, no_model_in, nothing_at

PILE = "models/RWKV-4-Pile-169M-20220807-8023.pth"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run, the authors' files and a Hugging Face folder, to be in."""
    for file in (PILE, "models/q5.bin", "runs/demo/model/config.json", "hf/config.json"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text("{}")
    (tmp_path / "models" / ".hidden.pth").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("models/rwkv-4-pile-169m", PILE),
        ("models/q5.pth", "models/q5.bin"),
        ("model/q5.bin", "models/q5.bin"),
        ("run/demo/model", "runs/demo/model"),
        ("runs/dmo/modle", "runs/demo/model"),
        ("RWKV-4-Pile-169M.pth", PILE),
        ("downloads/q5.bin", "models/q5.bin"),
        ("hff", "hf"),
        ("../nothing-like-it", None),
        ("/nowhere/q5.bin", None),
    ],
)
@pytest.mark.usefixtures("here")
def test_the_nearest_path_is_found_whichever_part_is_mistyped(path, expected):
    assert nearest(Path(path)) == (None if expected is None else Path(expected))


def test_an_absolute_path_is_met_with_one(here):
    message = nothing_at(here / "modles" / "q5.bin")
    assert message.endswith(f"Did you mean {str(here / 'models' / 'q5.bin')!r}?")


@pytest.mark.usefixtures("here")
def test_what_is_there_is_listed():
    assert nothing_at("models/x") == (
        "no checkpoint at 'models/x': it does not exist. Found in 'models': "
        "['RWKV-4-Pile-169M-20220807-8023.pth', 'q5.bin']. It is no name on the hub, since "
        "'models' is here"
    )


@pytest.mark.usefixtures("here")
def test_what_may_have_been_a_name_on_the_hub_is_told_how_one_is_written():
    message = nothing_at("BlinkDL/rwkv-4-raven/RWKV-4-Raven-1B5")
    assert message.endswith("A name on the hub is owner/name, owner/name@revision or "
                            "owner/name/file.pth")  # fmt: skip


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://huggingface.co/RWKV/rwkv-4-169m-pile", "RWKV/rwkv-4-169m-pile"),
        ("https://huggingface.co/o/n/tree/v1", "o/n@v1"),
        ("https://huggingface.co/o/n/resolve/main/a%2098%25.pth?download=true", "o/n/a 98%.pth"),
        (Path("https://huggingface.co/o/n/blob/main/a.pth"), "o/n/a.pth"),
    ],
)
def test_an_address_of_the_hub_is_met_with_its_name(address, name):
    assert nothing_at(address).endswith(f"give its name: {name!r}")


def test_a_folder_names_the_one_model_in_it(here):
    assert no_model_in(here / "runs" / "demo").endswith(f"mean {str(here / 'runs/demo/model')!r}?")
    assert no_model_in(here / "runs").endswith(f"mean {str(here / 'runs/demo/model')!r}?")


@pytest.mark.usefixtures("here")
def test_a_folder_with_several_models_lists_them():
    assert no_model_in(Path("models")).endswith(f"; name one of ['{PILE}', 'models/q5.bin']")


def test_a_run_without_a_model_is_said_to_be_one(tmp_path):
    (tmp_path / "config.toml").touch()
    assert no_model_in(tmp_path).endswith("it is a run, and its model is there when it has ended")


def test_a_folder_that_may_not_be_read_is_passed_over(tmp_path, monkeypatch):
    def refuse(_: Path):
        raise PermissionError

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert nearest(tmp_path / "x.pth") is None
