"""What takes long is shown on a terminal, and nowhere else."""

import sys

from receptance.cli.progress import progress_bar


def test_a_terminal_sees_how_far_it_is(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")

    with progress_bar("converting") as move:
        move(500_000, 1_000_000)

    shown = capsys.readouterr().err
    assert "converting" in shown
    assert "0.5/1.0 MB" in shown


def test_a_file_sees_nothing(capsys):
    with progress_bar("converting") as move:
        move(1, 2)

    assert capsys.readouterr() == ("", "")
