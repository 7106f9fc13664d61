"""The reference curves of `receptance plot --reference`: a shipped recipe, run several times.

python -m paper.reference_curves demo [--library FOLDER ...]
python -m paper.reference_curves wikitext2 --text wiki.train.tokens wiki.valid.tokens

Each run has a seed of its own. The demo's text is the standard library of a Python, so it is run on
those of several: what a version changes is then within the band. Runs that are there already are
kept, and a killed one goes on.
"""

import argparse
import json
import sysconfig
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paper.harness.experiment import WORK
from paper.harness.training import Trained, train_model
from receptance.atomic import atomic_file
from receptance.cli.run_reference import REFERENCES, file_name, windows
from receptance.data import TokenStore, prepare, standard_library
from receptance.training import METRICS_FILE, read_metrics

ROOT = Path(__file__).parents[1]
RECIPES = {
    "demo": ROOT / "src" / "receptance" / "cli" / "demo.toml",
    "wikitext2": ROOT / "recipes" / "wikitext2.toml",
}
N_WINDOWS = 40
DOCUMENT_START = "^ = [^=]+ = $"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a recipe with several seeds, and write what its curves were."""
    parser = argparse.ArgumentParser(prog="python -m paper.reference_curves", description=__doc__)
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument(
        "--library",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        default=[Path(sysconfig.get_path("stdlib"))],
        help="standard libraries, for the demo: each seed has the next one",
    )
    parser.add_argument("--text", nargs=2, type=Path, metavar="FILE", help="of WikiText-2")
    parser.add_argument("--steps", type=int, help="shorter, to try the command")
    parser.add_argument("--work", type=Path, default=WORK / "references")
    parser.add_argument("--out", type=Path, default=REFERENCES)
    given = parser.parse_args(argv)
    settings = tomllib.loads(RECIPES[given.recipe].read_text(encoding="utf-8"))
    del settings["name"], settings["data"]["store"]
    settings["every"]["sample_steps"] = 0
    if given.steps:
        settings["training"]["steps"] = given.steps
    runs = []
    for index, seed in enumerate(given.seeds):
        if given.recipe == "demo":
            library = given.library[index % len(given.library)]
            name, store = library.name, _library_tokens(library, given.work)
        elif given.text is None:
            parser.error("wikitext2 needs --text, its training and its held-out file")
        else:
            name, store = "WikiText-2", _wikitext_tokens(given.text[0], given.text[1], given.work)
        run_name = f"{given.recipe}-{name}-{seed}"
        trained = train_model(run_name, store, given.work, {**settings, "seed": seed})
        runs.append(_told(name, seed, store, trained))
    reference = _reference(given.recipe, settings, runs)
    given.out.mkdir(parents=True, exist_ok=True)
    path = given.out / f"{given.recipe}.json"
    with atomic_file(path) as staged:
        staged.write_text(json.dumps(reference, indent=1) + "\n", encoding="utf-8")
    held_out = [run["valid_bits_per_byte"][-1][1] for run in runs]
    print(f"{path}: {len(runs)} runs, held out {', '.join(f'{each:.4f}' for each in held_out)}")
    return 0


def _library_tokens(library: Path, work: Path) -> TokenStore:
    """Return the tokens of a standard library, as `receptance demo` makes them."""
    folder = work / "stores" / library.name
    if (folder / "store.json").is_file():
        return TokenStore.open(folder)
    corpus = standard_library(folder=library)
    return prepare(corpus.train, "train:4096", folder, valid=corpus.held_out)


def _wikitext_tokens(train: Path, valid: Path, work: Path) -> TokenStore:
    """Return the tokens of WikiText-2, as its recipe says."""
    folder = work / "stores" / "wikitext2"
    if (folder / "store.json").is_file():
        return TokenStore.open(folder)
    return prepare([train], "train:4096", folder, valid=[valid], document_start=DOCUMENT_START)


def _told(text: str, seed: int, store: TokenStore, trained: Trained) -> dict[str, Any]:
    """Return what the file says of a run."""
    lines = read_metrics(trained.folder / METRICS_FILE)
    n_steps = trained.steps[-1]
    size = max(n_steps // N_WINDOWS, 1)
    return {
        "text": text,
        "store_sha256": store.sha256,
        "held_out": [file_name(each.path) for each in store.manifest.sources if each.held_out],
        "seed": seed,
        "first_reading": store.train.n_tokens // (lines[0]["tokens"]),
        "window": size,
        "bits_per_byte": [round(mean, 5) for _, mean in windows(lines, size)],
        "valid_bits_per_byte": [[step, round(value, 5)] for step, value in trained.valid],
    }


def _reference(recipe: str, settings: Mapping[str, Any], runs: list[dict]) -> dict[str, Any]:
    """Return the file: the settings, and the runs."""
    held_out = sorted({name for run in runs for name in run.pop("held_out")})
    return {
        "recipe": recipe,
        "command": f"python -m paper.reference_curves {recipe}",
        "text": "the standard library of a Python" if recipe == "demo" else "WikiText-2",
        "held_out_names": held_out if recipe == "demo" else [],
        "vocab_size": 4096,
        "settings": settings,
        "runs": runs,
    }


if __name__ == "__main__":
    raise SystemExit(main())
