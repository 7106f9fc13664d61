"""The confined process: it answers lines of JSON, and is run as a script, without our package.

Three things end it: the timer of its own computing time, the lack of memory, and the end of its
input. Whoever asks takes its end as the answer.
"""

import json
import resource
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

_MB = 2**20
# What recurses deeper than this allows would do so in the server too, and end it.
_STACK_BYTES = 512 * 1024
_TRIED_BYTES = 16


def main(job: str, seconds: float, megabytes: int) -> None:
    """Answer every line of the standard input.

    Args:
        job: "grammar" or "template".
        seconds: Computing time for each line.
        megabytes: Memory for all of them, beside what the process has when it begins.
    """
    answers, sys.stdout = sys.stdout, sys.stderr
    run = _JOBS[job]()
    _limit_memory(megabytes * _MB)
    threading.stack_size(_STACK_BYTES)
    for line in sys.stdin:
        signal.setitimer(signal.ITIMER_PROF, seconds)
        said: dict[str, Any] = {"error": "it took too much memory"}
        thread = threading.Thread(target=_answer, args=(run, line, said))
        thread.start()
        thread.join()
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(json.dumps(said) + "\n")
        answers.flush()


def _answer(run: Callable[..., str], line: str, said: dict[str, Any]) -> None:
    """Write into `said` what the job gives, or why it does not."""
    try:
        text = run(**json.loads(line))
    except MemoryError:
        return
    except BaseException as error:  # noqa: BLE001 - a panic of Rust is no Exception
        said["error"] = f"{type(error).__name__}: {error}"[:500]
        return
    said.clear()
    said["text"] = text


def _limit_memory(n_bytes: int) -> None:
    """Forbid the process more than this, where the system tells how much it has."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        used = int(statm.read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + n_bytes, used + n_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _grammar_job() -> Callable[..., str]:
    import llguidance  # noqa: PLC0415 - only this job needs it

    class Bytes:
        """The 256 bytes and the end of a text: enough to take a grammar's first steps."""

        eos_token_id = 256
        bos_token_id = None
        special_token_ids = (256,)
        tokens = (*(bytes([byte]) for byte in range(256)), b"")

        def __call__(self, text: bytes | str) -> list[int]:
            return list(text if isinstance(text, bytes) else text.encode())

    vocabulary = llguidance.LLTokenizer(llguidance.TokenizerWrapper(Bytes()))

    def run(grammar: str) -> str:
        """Return why llguidance does not take a grammar; nothing if it does."""
        matcher = llguidance.LLMatcher(vocabulary, grammar, log_level=0)
        for _ in range(_TRIED_BYTES):  # much is made only when a text comes to it
            if matcher.is_stopped():
                break
            mask = int.from_bytes(matcher.compute_bitmask(), "little")
            if not mask:
                break
            matcher.consume_token((mask & -mask).bit_length() - 1)
        return matcher.get_error()

    return run


def _template_job() -> Callable[..., str]:
    from jinja2 import TemplateError  # noqa: PLC0415 - only this job needs it
    from jinja2.sandbox import ImmutableSandboxedEnvironment  # noqa: PLC0415

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment.globals["raise_exception"] = raise_exception
    templates: dict[str, Any] = {}

    def run(source: str, variables: dict[str, Any], max_characters: int) -> str:
        """Return what a template writes."""
        if source not in templates:
            templates.clear()
            templates[source] = environment.from_string(source)
        parts: list[str] = []
        left = max_characters
        for part in templates[source].generate(**variables):
            left -= len(part)
            if left < 0:
                message = f"it must write at most {max_characters} characters, but it writes more"
                raise TemplateError(message)
            parts.append(part)
        return "".join(parts)

    return run


_JOBS = {"grammar": _grammar_job, "template": _template_job}

if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
