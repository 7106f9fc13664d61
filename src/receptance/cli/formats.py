"""The option that names formats of weights: dtypes of the matrices, and quantized ones."""

import click

DTYPES = ("float32", "bfloat16")


class Formats(click.ParamType[tuple[str, ...]]):
    """Names of formats with commas between them, each of them once."""

    name = "formats"

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        """Return how the help shows the value."""
        del param, ctx
        return "FORMAT,…"

    def convert(
        self,
        value: str | tuple[str, ...],
        param: click.Parameter | None,
        ctx: click.Context | None,
    ) -> tuple[str, ...]:
        """Return the names; an unknown one is wrong usage."""
        if isinstance(value, tuple):
            return value
        from receptance.quantization import FORMATS

        known = [*DTYPES, *FORMATS]
        names = [name.strip() for name in value.split(",")]
        for name in names:
            if name not in known:
                self.fail(f"a format must be one of {', '.join(known)}, got {name!r}", param, ctx)
        return tuple(dict.fromkeys(names))


def load_options(name: str) -> dict[str, str]:
    """Return what `load` is told so that the weights are of this format."""
    return {"dtype": name} if name in DTYPES else {"quantize": name}
