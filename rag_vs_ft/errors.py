"""Errors that a user can act on: the command line prints `message` and `hint` and exits with `exit_code`."""

from __future__ import annotations


class UserError(Exception):
    """The input is wrong: what and where (file, line, field, value), and the next step as `hint`."""

    exit_code = 2

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class CheckFailed(UserError):
    """A check that ran to its end and did not pass: a damaged index, a regression, an unsound question file."""

    exit_code = 1


class Stopped(UserError):
    """Somebody asked the work to stop, and it did where nothing is lost: the message says what was kept."""

    exit_code = 130


class Busy(UserError):
    """Another process holds the lock of what was asked for."""

    exit_code = 3
