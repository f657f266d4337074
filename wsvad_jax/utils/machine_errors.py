"""Messages about the machine: memory, disks, devices, processes and encodings."""

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
    "there is not enough memory; use more config.data.microbatches or "
    "config.model.remat (VadCLIP, DSANet: the same results), "
    "config.data.placement=host, or a smaller batch_size"
)


def resume_command() -> str:
    """Describes the command that resumes the run of this process."""
    again = "--restart" in sys.argv[1:]
    return "the same command" + (" without --restart" if again else "")


def machine_error_message(error: Exception) -> str:
    """Returns a message if the machine is the likely cause of an error, else ""."""
    if is_missing_device(error):
        platforms = os.environ.get("JAX_PLATFORMS", "")

        # JAX's message ends with advice that doesn't fit here.
        asked = f"JAX_PLATFORMS={platforms}" if platforms else "JAX"
        why = one_line(error, 400).partition(" (set JAX_PLATFORMS")[0]
        why = why if str(error) else "it is installed without support for that kind"
        return (
            f"{asked} asks for a device that JAX doesn't find on this machine ({why}); "
            "set JAX_PLATFORMS=cpu, or unset it to use the devices of this machine"
        )

    # A full disk also fails computations, by their caches.
    if text := full_disk_message(error):
        return text
    if is_out_of_memory(error):
        return f"{OUT_OF_MEMORY} ({one_line(error)})"
    # Errors of a computation are bugs; other libraries' errors are about files.
    return "" if is_jax_error(error) else machine_error_reason(error)


def is_jax_error(error: Exception) -> bool:
    """Whether an error comes from a JAX computation."""
    return "JaxRuntimeError" in {kind.__name__ for kind in type(error).__mro__}


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that a device or this machine is out of memory."""
    if isinstance(error, MemoryError):
        return True
    # Full disks and too many open files have the same name, with an error number.
    text = str(error)
    return text.startswith("RESOURCE_EXHAUSTED") and "os_error_code" not in text


def is_peer_failure(error: Exception) -> bool:
    """Whether an error says that another process of the run no longer answers."""
    jax = sys.modules.get("jax")
    signs = ("Gloo", "NCCL", "UNAVAILABLE", "heartbeat", "oordination service")
    return (
        jax is not None
        and jax.process_count() > 1
        and any(sign in str(error) for sign in signs)
    )


def full_disk_message(error: Exception) -> str:
    """Returns a message about a full disk, "" for any other error."""
    found = [
        where for e in error_chain(error) if (where := full_disk_path(e)) is not None
    ]
    if not found:
        return ""
    # At exit, other writers flush their buffers and would each report the error again.
    atexit.register(_silence_hooks)

    where = next(filter(None, found), "")
    return (
        f"{where + ': ' if where else ''}No space left on device: the disk or your "
        f"quota is full; free some space, and {resume_command()} resumes from the files "
        "that are complete"
    )


def silence_full_disk_in_threads() -> None:
    """Silences full-disk errors of other threads, since the main thread reports one."""
    # The main thread prints one line; a traceback per thread would hide it.
    report = threading.excepthook

    def hook(found: threading.ExceptHookArgs) -> None:
        if found.exc_value is None or full_disk_path(found.exc_value) is None:
            report(found)

    threading.excepthook = hook


def _silence_hooks() -> None:
    sys.unraisablehook = threading.excepthook = lambda _: None


def escape_unprintable_output() -> None:
    """Prints escapes for characters that the terminal's encoding lacks.

    Also remarks on a file-system encoding other than UTF-8.
    """
    # Other characters would end the program with a UnicodeEncodeError.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")

    # Names of files in another encoding can't be written in a UTF-8 list.
    encoding = sys.getfilesystemencoding()
    if codecs.lookup(encoding).name != "utf-8":
        print(
            f"remark: Python reads file names as {encoding} here, so files with other "
            "letters in their names count as missing; set PYTHONUTF8=1",
            file=sys.stderr,
        )
