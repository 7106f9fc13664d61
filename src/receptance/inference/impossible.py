"""What is wrong with a request, told apart from what is wrong with us."""


class ImpossibleRequestError(ValueError):
    """What was asked for is wrong, or leaves nothing to write: who asked can mend it.

    Any other error of the engine is a mistake of this package or of the machine, a plain
    `ValueError` too: its message is for who runs the program, not for who asked.
    """
