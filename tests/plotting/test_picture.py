"""A picture shows every curve, and the same curves give the same bytes."""

import math
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from receptance.errors import ReceptanceError
from receptance.plotting import Chart, Curve, require_matplotlib, save_picture

SVG = "{http://www.w3.org/2000/svg}"


def charts(label: str = "run", n: int = 5) -> list[Chart]:
    x = [float(i) for i in range(200)]
    falling = [3.0 - i / 100 for i in range(200)]
    curves = [
        Curve(label=label, x=x, y=falling, style=style)
        for style in ("line", "thin", "faint", "dots")
    ]
    spikes = Curve(label=label, x=[5.0, 9.0], y=[math.nan, 99.0], style="crosses")
    return [
        Chart(
            title=f"chart {i}",
            x_label="steps",
            x_range=(0.0, 199.0),
            curves=[*curves, spikes],
            is_log=i == 3,
            is_zoomed=i == 0,
        )
        for i in range(n)
    ]


def texts(path: Path) -> list[str]:
    return ["".join(each.itertext()) for each in ElementTree.parse(path).iter(f"{SVG}text")]


def test_an_svg_has_the_titles_the_numbers_and_the_runs_as_text(tmp_path):
    save_picture(charts(), tmp_path / "x.svg")

    found = texts(tmp_path / "x.svg")
    assert {f"chart {i}" for i in range(5)} <= set(found)
    assert {"run", "steps", "0", "100"} <= set(found)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 6])
def test_any_number_of_charts_is_drawn(tmp_path, n):
    save_picture(charts(n=n), tmp_path / "x.svg")

    assert [each for each in texts(tmp_path / "x.svg") if each.startswith("chart")] == [
        f"chart {i}" for i in range(n)
    ]


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("PNG", b"\x89PNG")])
def test_a_png_is_one(tmp_path, ending, magic):
    path = tmp_path / f"x.{ending}"
    save_picture(charts(n=1), path)

    assert path.read_bytes().startswith(magic)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_same_charts_give_the_same_bytes(tmp_path, ending):
    for name in ("a", "b"):
        save_picture(charts(n=2), tmp_path / f"{name}.{ending}")

    first, second = ((tmp_path / f"{name}.{ending}").read_bytes() for name in "ab")
    assert first == second


@pytest.mark.parametrize("label", ["_hidden", "$x^2$", "100 % & <b>", "a_b^c"])
def test_any_name_of_a_run_is_written_as_it_is(tmp_path, label):
    save_picture(charts(label, n=1), tmp_path / "x.svg")

    assert label in texts(tmp_path / "x.svg")


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a picture must end with \.png or \.svg, got '.*x\.gif'"):
        save_picture(charts(), tmp_path / "x.gif")

    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)

    with pytest.raises(ReceptanceError, match=r"`pip install 'receptance\[plot\]'`$"):
        save_picture(charts(), tmp_path / "x.png")
    with pytest.raises(ReceptanceError, match=r"`pip install 'receptance\[plot\]'`, or draw in"):
        require_matplotlib(", or draw in the terminal")

    assert list(tmp_path.iterdir()) == []


def test_an_axis_of_factors_has_powers_of_ten(tmp_path):
    dots = Curve(label="run", x=[1.0, 32.0, 1000.0], y=[3.0, 2.0, 1.0], style="dots")
    shown = Chart(title="loss", x_label="", x_range=(1.0, 1000.0), curves=[dots], is_log_x=True)

    save_picture([shown], tmp_path / "x.svg")

    assert {"1", "10", "100", "1000"} <= set(texts(tmp_path / "x.svg"))
