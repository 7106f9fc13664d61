"""Table 2: parameters of the six sizes, and the FLOPs of a token."""

from typing import Any

from paper.harness import Experiment, Options, main, markdown_table
from receptance.models import PRESETS, RWKV4, RWKV4Config

# The paper's table 2.
PAPER = {
    "169m": (1.693e8, 2.613e8),
    "430m": (4.304e8, 7.573e8),
    "1.5b": (1.515e9, 2.823e9),
    "3b": (2.985e9, 5.710e9),
    "7b": (7.393e9, 1.437e10),
    "14b": (1.415e10, 2.778e10),
}


def measure(options: Options) -> dict[str, Any]:  # noqa: ARG001 - it needs no text and no scale
    """Count the parameters of each size's model, and add up the products of its matrices."""
    import torch

    rows = []
    for name in PRESETS:
        config = RWKV4Config.preset(name)
        with torch.device("meta"):
            model = RWKV4(config)
        parameters = dict(model.named_parameters())
        matrices = [
            each for key, each in parameters.items() if each.ndim == 2 and key != "emb.weight"
        ]
        rows.append(
            {
                "name": name,
                "n_layer": config.n_layer,
                "n_embd": config.n_embd,
                "parameters": sum(each.numel() for each in parameters.values()),
                "parameters_by_formula": config.n_parameters,
                # A product and a sum for each number of each matrix; the embedding is looked up.
                "flops": 2 * sum(each.numel() for each in matrices),
                "flops_by_formula": config.flops_per_token,
            }
        )
    return {"sizes": rows}


def section(found: dict[str, Any]) -> str:
    """Return the table, with the paper's values beside those of the models."""
    rows = []
    for row in found["sizes"]:
        parameters, flops = PAPER[row["name"]]
        rows.append(
            (
                row["name"],
                row["n_layer"],
                row["n_embd"],
                f"{parameters:.3e}",
                f"{row['parameters']:,}",
                f"{flops:.3e}",
                f"{row['flops']:,}",
            )
        )
    agree = all(
        f"{row['parameters']:.3e}" == f"{PAPER[row['name']][0]:.3e}"
        and f"{row['flops']:.3e}" == f"{PAPER[row['name']][1]:.3e}"
        and row["parameters"] == row["parameters_by_formula"]
        and row["flops"] == row["flops_by_formula"]
        for row in found["sizes"]
    )
    head = ("model", "L", "D", "parameters, paper", "here", "FLOPs a token, paper", "here")
    verdict = (
        "All twelve of the paper's values are those of the models that this package builds, to "
        "each of their digits; 2VD + 13D²L + D(11L + 4) and 2(VD + 13D²L) are exact to the unit."
        if agree
        else "**Not all values agree.**"
    )
    return f"{markdown_table(head, rows)}\n\n{verdict}"


EXPERIMENT = Experiment(
    name="table_2_sizes",
    title="Table 2: parameters and FLOPs of the six sizes",
    claim="Six models from 169 million to 14 billion parameters (section 4, table 2).",
    differs=(
        "Nothing: a model of each shape is built without memory and counted. The paper's text "
        "gives 2(2VD + 13D²L) FLOPs for a token; the values of its table are 2(VD + 13D²L), "
        "without the embedding, which is looked up."
    ),
    measure=measure,
    section=section,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
