"""Lines in, answers out; a command that goes wrong does not end the conversation."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from receptance.checkpoint import save_model
from receptance.cli import chat
from receptance.cli.chat import command
from receptance.inference import Chat, ChatFormat, SamplingParams, load
from receptance.tokenizer import load_tokenizer
from tests.random_models import random_rwkv4


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("chat") / "model"
    save_model(random_rwkv4(n_layer=1, n_embd=16, vocab_size=256), load_tokenizer("bytes"), path)
    return path


def talk(model: Path, *lines: str, args: tuple[str, ...] = ()):
    options = ["--max-tokens", "5", "--seed", "1", *args]
    text = "".join(f"{line}\n" for line in lines)
    return CliRunner().invoke(command, [str(model), *options], input=text)


def answers(model: Path, *texts: str, system: str = "") -> str:
    chat = Chat(load(model), SamplingParams(max_tokens=5, seed=1), system=system)
    return "".join("".join(chat.say(text)) + "\n" for text in texts)


def test_each_line_is_answered_on_stdout(model):
    result = talk(model, "Hello", "", "Why?")

    assert result.exit_code == 0
    assert result.stdout == answers(model, "Hello", "Why?")
    assert result.stderr == ""


def test_bytes_that_are_no_text_are_replaced(model):
    result = CliRunner().invoke(
        command, [str(model), "--max-tokens", "5", "--seed", "1"], input=b"a\xff\r\n"
    )

    assert result.exit_code == 0
    assert result.stdout == answers(model, "a\ufffd")


def test_instructions_come_first(model):
    result = talk(model, "Hello", args=("--system", "Be kind."))

    assert result.stdout == answers(model, "Hello", system="Be kind.")
    assert result.stdout != answers(model, "Hello")


def test_turns_are_written_in_the_format_that_is_asked_for(model):
    result = talk(model, "Hello", args=("--chat-format", "raven"))

    bob = ChatFormat(user="Bob", assistant="Alice")
    chat = Chat(load(model), SamplingParams(max_tokens=5, seed=1), chat_format=bob)
    assert result.stdout == "".join(chat.say("Hello")) + "\n"
    assert talk(model, "Hello", args=("--chat-format", "chatml")).exit_code == 2


def test_nothing_is_read_after_exit(model):
    result = talk(model, "Hello", "/exit", "Why?")

    assert result.exit_code == 0
    assert result.stdout == answers(model, "Hello")


def test_commands_speak_on_stderr(model):
    result = talk(model, "/help", "Hello", "/undo", "/reset")

    assert result.stdout == answers(model, "Hello")
    assert "/load FILE  go on from a memory" in result.stderr
    assert "(taken back: 'Hello')" in result.stderr
    assert "(everything is forgotten)" in result.stderr


def test_retry_answers_again(model):
    result = talk(model, "Hello", "/retry")

    assert result.stdout.startswith(answers(model, "Hello"))
    assert len(result.stdout) > len(answers(model, "Hello"))
    assert result.stderr == ""


def test_a_conversation_is_saved_and_loaded(model, tmp_path):
    file = tmp_path / "talk.safetensors"

    saved = talk(model, "Hello", f"/save {file}")
    loaded = talk(model, f"/load {file}", f"/save {tmp_path / 'again.safetensors'}")

    assert f"(saved to {str(file)!r})" in saved.stderr
    assert f"(remembering {str(file)!r})" in loaded.stderr
    assert (tmp_path / "again.safetensors").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/dance", "error: there is no command '/dance'; /help lists them"),
        ("/undo", "error: there must be a turn to take back, but there is none"),
        ("/retry", "error: there must be a turn to take back, but there is none"),
        ("/save", "error: /save must be followed by a file"),
        ("/save talk", "error: there must be something to save, but nothing was said yet"),
        ("/load", "error: /load must be followed by a file"),
        ("/load nothing", "error: no state at 'nothing': the file does not exist"),
    ],
)
def test_what_goes_wrong_is_said_and_the_conversation_goes_on(model, line, words):
    result = talk(model, line, "Hello")

    assert result.exit_code == 0
    assert words in result.stderr
    assert result.stdout == answers(model, "Hello")


def test_a_memory_that_cannot_be_written_is_said(model, tmp_path):
    result = talk(model, "Hello", f"/save {tmp_path / 'nowhere' / 'talk'}")

    assert result.stderr.count("cannot be written: No such file or directory") == 1
    assert result.stderr.count("cannot be written") == 1


def test_ctrl_c_at_the_prompt_does_not_end_the_conversation(monkeypatch, capsys):
    typed = iter(["Hello", KeyboardInterrupt, "Why?", EOFError])

    def type_line(prompt: str) -> str:
        assert prompt == "> "
        line = next(typed)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", type_line)
    monkeypatch.setattr(chat, "stdin_is_terminal", lambda: True)
    monkeypatch.setattr(chat, "stdout_is_terminal", lambda: True)

    assert list(chat.lines()) == ["Hello", "Why?"]
    assert capsys.readouterr().err == "\n(/exit or Ctrl-D leaves)\n"


def test_wrong_usage_is_refused_with_code_2(model):
    result = talk(model, "Hello", args=("--temperature", "-1"))

    assert result.exit_code == 2
    assert result.stderr.count("Error:") == 1
