"""What shows that stored arrays are damaged, and not just out of reach now."""

import json
import pathlib
import re

from wsvad_jax.utils.errors import (
    InputError,
    UnreadableError,
    error_chain,
    one_line,
    raise_if_unreadable,
)
from wsvad_jax.utils.files import check_all_readable

# What readers say of files that are there and hold something else.
CORRUPTION_MESSAGE = re.compile(
    r"(DATA_LOSS|OUT_OF_RANGE|NOT_FOUND)\b|\w+: Error reading .*"
    r"(Truncated|[Cc]hecksum|[Cc]orrupt|[Ii]nvalid|[Dd]ecod)"
)


def corruption_evidence(folder: pathlib.Path, error: Exception, known: bool) -> str:
    """Returns what shows that files in `folder` are damaged, which gave `error`.

    Args:
      folder: what was read.
      error: what came of it.
      known: whether the files are known to be as they were written.

    Raises:
      InputError: nothing shows it; names the reason instead.
    """
    raise_if_unreadable(folder, error)
    if not folder.is_dir():
        raise UnreadableError(f"{folder}: this folder is gone") from None
    if not known:
        # A folder that is closed to us looks empty to some readers.
        check_all_readable(folder)
        kinds = FileNotFoundError | json.JSONDecodeError | UnicodeDecodeError
        for e in error_chain(error):
            said = isinstance(e, ValueError) and CORRUPTION_MESSAGE.match(str(e))
            if said or isinstance(e, kinds):
                return one_line(e)
    state = "as they were written" if known else "all readable"
    raise InputError(
        f"{folder}: loading it failed ({one_line(error)}), although its files are "
        f"{state}; nothing was changed; try again, or move the folder away"
    ) from None
