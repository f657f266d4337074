"""The one error type for everything a user can cause."""


class InputError(ValueError):
    """A bad input: one sentence with what was found, expected, and what to do.

    Programs print it without a traceback and exit with code 2 (`cli.run`).
    """
