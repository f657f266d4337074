"""Starts a program for each message, with the JSON on its standard input.

Exit code 0 acknowledges the message. No shell reads the command.
"""

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys

from wsvad_jax.alarms.sinks import Message, NotDeliveredError, identity_of
from wsvad_jax.utils.errors import InputError

LONGEST = 60.0  # seconds that a program may take for one message
# A program that fails on a message may fail on it for ever, and later ones would wait.
TRIES = 8  # two minutes, with pauses of 1, 2, 4 … 64 s
# Words that a shell would act on, and a program would get as its arguments.
OF_A_SHELL = frozenset({"|", "||", "&", "&&", ";", ">", ">>", "<", "2>", "2>&1"})


class EventCommand:
    """A program that takes one message per start."""

    flag = "--on_event"
    tries = TRIES

    def __init__(self, command: str):
        """Splits the command as a shell does.

        Args:
          command: program and its arguments.

        Raises:
          InputError: empty, an open quote, a shell's operator, or no such program.
        """
        try:
            self.words = shlex.split(command)
        except ValueError as e:
            raise InputError(
                f"{self.flag}: the command has an open quote ({str(e).lower()}); close it"
            ) from None
        if not self.words or not self.words[0]:
            raise InputError(
                f"{self.flag} is empty; expected a program, such as ./alarm.sh"
            )
        if "\0" in command:
            raise InputError(
                f"{self.flag}: the command holds a null character; remove it"
            )

        # A pipe would otherwise be an argument, and nothing would say so.
        operators = [word for word in self.words if word in OF_A_SHELL]
        if operators or self.words[0].startswith("~"):
            sign = (operators or ["~"])[0]
            raise InputError(
                f"{self.flag}: {sign} is for a shell, and none reads the command; put it "
                "into a script, or pass sh -c '…'"
            )
        if "://" in self.words[0]:
            raise InputError(
                f"{self.flag}: the command is an address; pass it by --webhook or --mqtt"
            )
        program = shutil.which(self.words[0])
        if program is None:
            raise InputError(
                f"{self.flag}: {self.words[0]:.100} is no program that can be run; expected "
                "one on PATH, or the path of an executable file"
            )

        # Arguments may hold tokens; the program alone is shown.
        self.shown = self.words[0]
        self.identity = identity_of("command", *self.words)
        self.process: subprocess.Popen | None = None

    def send(self, message: Message) -> None:
        """Runs the program on a message, see `sinks.Sink.send`."""
        try:
            # Standard output is for lines of JSON. A session of its own, so that Ctrl-C
            # doesn't reach the program, and a timeout reaches what it started.
            self.process = subprocess.Popen(
                self.words,
                stdin=subprocess.PIPE,
                stdout=self._output(),
                start_new_session=True,
            )
        except OSError as e:
            reason = (e.strerror or str(e)).lower()
            raise NotDeliveredError(f"can't be started ({reason})") from None

        process = self.process
        try:
            process.communicate(f"{message.body}\n".encode(), LONGEST)
        except subprocess.TimeoutExpired:
            self.close()
            process.wait()
            raise NotDeliveredError(f"no end within {LONGEST:g} s") from None
        if process.returncode:
            how = f"exit code {process.returncode}"
            if process.returncode < 0:
                how = f"ended by signal {-process.returncode}"
            raise NotDeliveredError(how)

    def close(self) -> None:
        """Kills the program if it is still running."""
        process = self.process
        if process is not None and process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)

    def _output(self) -> int:
        try:
            return sys.stderr.fileno()
        except (OSError, ValueError, AttributeError):  # a test's or a notebook's
            return subprocess.DEVNULL
