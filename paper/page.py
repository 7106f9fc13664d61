"""The page: every result in `paper/results` beside what the paper says.

python -m paper.page            writes paper/README.md
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from paper.experiments import EXPERIMENTS
from paper.harness import Experiment, Result, read_result
from paper.harness.results import RESULTS
from receptance.atomic import atomic_file

PAGE = Path(__file__).with_name("README.md")
HEAD = """\
# The paper, executable

Each table and figure of "RWKV: Reinventing RNNs for the Transformer Era" (Peng et al. 2023,
arXiv:2305.13048), as a script that measures what of it can be measured here. Values of the paper
are copied from it, or read from its figures, and say so; every other number on this page was
written by the command above it, and the page by `python -m paper.page`.

    make paper                                     all scripts, as small as proves them
    python -m paper.table_2_sizes                  one of them, as on this page
    python -m paper.figure_9_small_init --text MY.txt
    python -m paper.figure_10_decays --model FOLDER

Without `--text` the text is the standard library of the Python that runs the script; each result
says which. A script that was killed goes on where it was when it is run again; the seconds below a
result are those of the process that wrote it.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page; with `--check`, fail if it is not what the results say."""
    page = build_page(RESULTS)
    if "--check" in (sys.argv[1:] if argv is None else argv):
        return int(page != PAGE.read_text(encoding="utf-8"))
    with atomic_file(PAGE) as staged:
        staged.write_text(page, encoding="utf-8")
    return 0


def build_page(folder: Path) -> str:
    """Return the page, of the results in a folder."""
    return "\n".join([HEAD, *(_section(experiment, folder) for experiment in EXPERIMENTS)])


def _section(experiment: Experiment, folder: Path) -> str:
    """Return what is told of an experiment."""
    parts = [f"## {experiment.title}", f"*The paper:* {experiment.claim}"]
    parts.append(f"*What differs here:* {experiment.differs}")
    if not (folder / f"{experiment.name}.json").is_file():
        parts.append(f"Not run yet: `python -m paper.{experiment.name}`.")
        return "\n\n".join(parts) + "\n"
    result = read_result(folder, experiment.name)
    parts += [f"    {result.command}", experiment.section(result.found)]
    if experiment.draw is not None:
        parts.append(f"![{experiment.title}](results/{experiment.name}.png)")
    parts.append(_provenance(result))
    return "\n\n".join(parts) + "\n"


def _provenance(result: Result) -> str:
    """Return on what a result was found, in one line."""
    text = result.found.get("text")
    parts = [
        f"{result.machine['cores']} cores of {result.machine['cpu']}",
        f"torch {result.versions['torch']}",
        f"{result.seconds:,.0f} s",
        result.date,
    ]
    if text is not None:
        sha = text["sha256"][:16]
        parts.insert(0, f"{text['name']} ({text['n_bytes']:,} bytes, sha256 {sha}…)")
    return f"<sub>{'; '.join(parts)}.</sub>"


if __name__ == "__main__":
    raise SystemExit(main())
