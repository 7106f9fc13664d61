"""Appendix H: the gradient through WKV is bounded, whatever the length."""

from typing import TYPE_CHECKING, Any

import torch

from paper.harness import COLOURS, Experiment, Options, main, markdown_table, new_figure
from receptance.ops.wkv4 import WKV4State, wkv4

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LENGTHS = {"quick": (16, 64, 256, 1024), "small": (16, 64, 256, 1024, 4096, 16384)}
N_DRAWS = {"quick": 3, "small": 10}
GAIN, LONGEST_TANH = 1.6, 1024
"""Of the tanh network: what its gradient grows by, and the tokens up to which it is no overflow."""
C = 16


def gradients(T: int, seed: int) -> dict[str, float]:
    """Return the largest gradient of the last wkv to W_v and W_k, and what bounds them.

    Inputs are normal, as a LayerNorm leaves them; the matrices have a spread of 1/√C, and decays
    are spread evenly from none to complete, as in a new model. All is float64.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    x = normal(1, T, C)
    W_k, W_v = ((normal(C, C) * C**-0.5).requires_grad_() for _ in range(2))
    log_w = -torch.exp(torch.linspace(-12, 2, C, dtype=torch.float64))
    u = normal(C)
    k, v = x @ W_k.T, x @ W_v.T
    start = WKV4State.zeros(1, C, dtype=torch.float64)
    wkv, _ = wkv4(log_w, u, k, v, start)
    largest_v = largest_k = 0.0
    for i in range(C):
        of_k, of_v = torch.autograd.grad(wkv[0, -1, i], (W_k, W_v), retain_graph=True)
        largest_k = max(largest_k, float(of_k.abs().max()))
        largest_v = max(largest_v, float(of_v.abs().max()))
    # E_i[|x_j|] <= max |x_j|; a covariance is at most the product of the two half ranges.
    range_x = (x.amax(1) - x.amin(1)).max() / 2
    range_v = (v.detach().amax(1) - v.detach().amin(1)).max() / 2
    return {
        "of_W_v": largest_v,
        "bound_of_W_v": float(x.abs().max()),
        "of_W_k": largest_k,
        "bound_of_W_k": float(range_x * range_v),
    }


def recurrent_gradient(T: int, seed: int, gain: float) -> float:
    """Return the largest gradient of a tanh network's last state to its recurrent matrix."""
    generator = torch.Generator().manual_seed(seed)
    # First the network: it is the same for every T.
    W = torch.randn(C, C, generator=generator, dtype=torch.float64) * gain * C**-0.5
    W.requires_grad_()
    x = torch.randn(T, C, generator=generator, dtype=torch.float64)
    h = torch.zeros(C, dtype=torch.float64)
    for t in range(T):
        h = torch.tanh(W @ h + 0.1 * x[t])
    largest = 0.0
    for i in range(C):
        (grad,) = torch.autograd.grad(h[i], W, retain_graph=True)
        largest = max(largest, float(grad.abs().max()))
    return largest


def measure(options: Options) -> dict[str, Any]:
    """Take the largest of several draws, at each length."""
    rows = []
    for T in LENGTHS[options.scale]:
        draws = [gradients(T, seed) for seed in range(N_DRAWS[options.scale])]
        row: dict[str, Any] = {key: max(draw[key] for draw in draws) for key in draws[0]}
        row["T"] = T
        row["n_beyond_bound"] = sum(
            draw[key] > draw[f"bound_{key}"] for draw in draws for key in ("of_W_v", "of_W_k")
        )
        row["tanh_network"] = None
        if T <= LONGEST_TANH:
            seeds = range(N_DRAWS[options.scale])
            row["tanh_network"] = max(recurrent_gradient(T, seed, GAIN) for seed in seeds)
        rows.append(row)
    return {"lengths": rows, "n_draws": N_DRAWS[options.scale], "n_embd": C}


def section(found: dict[str, Any]) -> str:
    """Return the largest gradients and their bounds, by length."""
    rows = [
        (
            f"{row['T']:,}",
            f"{row['of_W_v']:.3f}",
            f"{row['bound_of_W_v']:.3f}",
            f"{row['of_W_k']:.3f}",
            f"{row['bound_of_W_k']:.3f}",
            "" if row["tanh_network"] is None else f"{row['tanh_network']:.3g}",
        )
        for row in found["lengths"]
    ]
    head = (
        *("T", "largest ∂wkv/∂W_v", "its bound max|x|", "largest ∂wkv/∂W_k", "its bound"),
        "a tanh network's, for comparison",
    )
    beyond = sum(row["n_beyond_bound"] for row in found["lengths"])
    return (
        f"{markdown_table(head, rows)}\n\n"
        f"The largest of {found['n_draws']} draws of D = {found['n_embd']}; {beyond} gradients lie "
        "beyond their bound. The gradients do not grow with T. Their bounds do, slowly: the more "
        "inputs are drawn at random, the larger is the largest of them. The last column is the "
        "gradient of a network h = tanh(W h + 0.1 x) to its recurrent matrix, whose entries have "
        f"{GAIN:g} / sqrt(D) as their standard deviation, as many draws."
    )


def draw(found: dict[str, Any]) -> "Figure":
    """Draw gradients and bounds over the length."""
    figure, axes = new_figure()
    (axis,) = axes.flat
    T = [row["T"] for row in found["lengths"]]
    for key, label, colour in (
        ("of_W_v", "∂wkv/∂W_v", COLOURS[0]),
        ("of_W_k", "∂wkv/∂W_k", COLOURS[1]),
    ):
        axis.plot(T, [row[key] for row in found["lengths"]], ".-", color=colour, label=label)
        bound = [row[f"bound_{key}"] for row in found["lengths"]]
        axis.plot(T, bound, "--", color=colour, label="its bound")
    tanh = [(row["T"], row["tanh_network"]) for row in found["lengths"] if row["tanh_network"]]
    axis.plot(*zip(*tanh, strict=True), ".-", color=COLOURS[5], label="a tanh network")
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xlabel("tokens, T")
    axis.set_ylabel("largest gradient of the last output")
    axis.legend(frameon=False, fontsize=8)
    return figure


EXPERIMENT = Experiment(
    name="gradient_stability",
    title="Appendix H: gradient stability",
    claim=(
        "The gradient of wkv_T to W_v is a weighted mean of inputs, and to W_k a covariance under "
        "the same weights, so neither grows with T (appendix H, equations 29 to 33)."
    ),
    differs=(
        "Nothing: the gradients of the operator that the models use are taken in float64 and set "
        "beside max|x|, and beside the product of half the ranges of x and v, which bounds a "
        "covariance. The paper has an argument and no figures."
    ),
    measure=measure,
    section=section,
    draw=draw,
)

if __name__ == "__main__":
    raise SystemExit(main(EXPERIMENT))
