"""What shows that stored arrays are damaged, and not just out of reach now."""

import json
import pathlib
import re

from wsvad_jax.utils.errors import (
    InputError,
    Unreadable,
    causes,
    check_readable,
    one_line,
)
from wsvad_jax.utils.files import read_through

# What readers say of files that are there and hold something else.
BROKEN = re.compile(
    r"(DATA_LOSS|OUT_OF_RANGE|NOT_FOUND)\b|\w+: Error reading .*"
    r"(Truncated|[Cc]hecksum|[Cc]orrupt|[Ii]nvalid|[Dd]ecod)"
)


def proof(folder: pathlib.Path, error: Exception, known: bool) -> str:
    """Returns what shows that files in `folder` are damaged, which gave `error`.

    Args:
      folder: what was read.
      error: what came of it.
      known: whether the files are known to be as they were written.

    Raises:
      InputError: nothing shows it; names the reason instead.
    """
    check_readable(folder, error)
    if not folder.is_dir():
        raise Unreadable(f"{folder}: this folder is gone") from None
    if not known:
        # A folder that is closed to us looks empty to some readers.
        read_through(folder)
        kinds = FileNotFoundError | json.JSONDecodeError | UnicodeDecodeError
        for e in causes(error):
            said = isinstance(e, ValueError) and BROKEN.match(str(e))
            if said or isinstance(e, kinds):
                return one_line(e)
    state = "as they were written" if known else "all readable"
    raise InputError(
        f"{folder}: loading it failed ({one_line(error)}), although its files are "
        f"{state}; nothing was changed; try again, or move the folder away"
    ) from None
