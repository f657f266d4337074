"""The one error type for everything a user can cause, and an end that is none."""

LONGEST = 10_000  # characters of a message


class InputError(ValueError):
    """A bad input: one sentence with what was found, expected, and what to do.

    Programs print it without a traceback and exit with code 2 (`cli.run`). What it
    quotes of a file is printable, in one line and not too long.
    """

    def __init__(self, message: str):
        text = printable(message)
        if len(text) > LONGEST:
            half = LONGEST // 2
            text = f"{text[:half]} … {text[-half:]}"
        super().__init__(text)


def printable(text: str) -> str:
    """Returns `text` in one line, with escapes for what isn't text or can't be seen."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class Stopped(Exception):
    """A run that a termination notice ended early; it can go on from what is saved."""
