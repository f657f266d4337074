"""Evidence that stored arrays are corrupt, rather than unreadable at the moment."""

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

# Messages of readers about existing files with invalid content.
CORRUPTION_MESSAGE = re.compile(
    r"(DATA_LOSS|OUT_OF_RANGE|NOT_FOUND)\b|\w+: Error reading .*"
    r"(Truncated|[Cc]hecksum|[Cc]orrupt|[Ii]nvalid|[Dd]ecod)"
)


def corruption_evidence(folder: pathlib.Path, error: Exception, known: bool) -> str:
    """Returns the evidence that files in `folder` are corrupt.

    Args:
      folder: folder that was read.
      error: error that reading it raised.
      known: whether hashes show that the files are as they were written.

    Raises:
      InputError: there is no evidence; names the reason of the error.
    """
    raise_if_unreadable(folder, error)
    if not folder.is_dir():
        raise UnreadableError(f"{folder}: this folder is gone") from None

    # Missing or undecodable files are evidence, unless hashes say otherwise.
    if not known:
        # A folder without permission looks empty to some readers.
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
