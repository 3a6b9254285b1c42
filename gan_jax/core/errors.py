"""Bad input ends in one clear line: what, where, the value, what to do."""

from __future__ import annotations


class UserError(ValueError):
    """Something the user gave cannot be used. The message is one line and says what to do; command
    lines exit with code 2."""
