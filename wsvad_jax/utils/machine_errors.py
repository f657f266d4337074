"""What a machine lacks, in a sentence: memory, room, a device, processes, letters."""

import atexit
import codecs
import io
import os
import sys
import threading

from wsvad_jax.utils.errors import (
    error_chain,
    full_disk_path,
    is_missing_device,
    machine_error_reason,
    one_line,
)

OUT_OF_MEMORY = (
    "there is not enough memory; take a larger config.data.microbatches or config.model.remat "
    "(VadCLIP, DSANet: the same numbers from less memory), config.data.placement=host, "
    "or a smaller batch_size"
)


def resume_command() -> str:
    """Returns how to name the command that resumes what this one began."""
    again = "--restart" in sys.argv[1:]
    return "the same command" + (" without --restart" if again else "")


def machine_error_message(error: Exception) -> str:
    """Returns what this machine lacks in a sentence, "" if a fault of ours is likelier."""
    if is_missing_device(error):
        platforms = os.environ.get("JAX_PLATFORMS", "")
        asked = f"JAX_PLATFORMS={platforms}" if platforms else "JAX"
        why = one_line(error, 400).partition(" (set JAX_PLATFORMS")[0]
        why = why if str(error) else "it is installed without support for that kind"
        return (
            f"{asked} asks for a device that JAX doesn't find on this machine ({why}); "
            "set JAX_PLATFORMS=cpu, or unset it to use what there is"
        )
    if text := full_disk_message(error):
        return text
    if is_out_of_memory(error):
        return f"{OUT_OF_MEMORY} ({one_line(error)})"
    # Libraries that write and read files have errors of their own kinds.
    return "" if is_jax_error(error) else machine_error_reason(error)


def is_jax_error(error: Exception) -> bool:
    """Whether an error is that of a computation."""
    return "JaxRuntimeError" in {kind.__name__ for kind in type(error).__mro__}


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error is that a device, or this machine, has no memory left."""
    if isinstance(error, MemoryError):
        return True
    # A full disk and too many open files have the same name, but a system's number.
    text = str(error)
    return text.startswith("RESOURCE_EXHAUSTED") and "os_error_code" not in text


def is_peer_failure(error: Exception) -> bool:
    """Whether an error is that another process of a run doesn't answer any more."""
    jax = sys.modules.get("jax")
    signs = ("Gloo", "NCCL", "UNAVAILABLE", "heartbeat", "oordination service")
    return (
        jax is not None
        and jax.process_count() > 1
        and any(sign in str(error) for sign in signs)
    )


def full_disk_message(error: Exception) -> str:
    """Returns which disk is full and what to do, "" where that isn't the error."""
    found = [
        where for e in error_chain(error) if (where := full_disk_path(e)) is not None
    ]
    if not found:
        return ""
    # At exit other writers try to write what they hold, and would each report it again.
    atexit.register(_silence_hooks)
    where = next(filter(None, found), "")
    return (
        f"{where + ': ' if where else ''}No space left on device: the disk is full, or "
        f"your quota of it; free some space, and {resume_command()} resumes from what is "
        "there and whole"
    )


def silence_full_disk_in_threads() -> None:
    """Keeps other threads from reporting a full disk, which this one meets as well."""
    report = threading.excepthook

    def hook(found: threading.ExceptHookArgs) -> None:
        if found.exc_value is None or full_disk_path(found.exc_value) is None:
            report(found)

    threading.excepthook = hook


def _silence_hooks() -> None:
    sys.unraisablehook = threading.excepthook = lambda _: None


def escape_unprintable_output() -> None:
    """Has the terminal's encoding stop nothing, and says where names of files may fail.

    What an encoding has no letters for is printed as an escape.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    encoding = sys.getfilesystemencoding()
    if codecs.lookup(encoding).name != "utf-8":
        print(
            f"remark: Python reads names of files as {encoding} here, so that files with "
            "other letters in their names count as missing; set PYTHONUTF8=1",
            file=sys.stderr,
        )
