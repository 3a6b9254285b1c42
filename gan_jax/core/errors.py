"""Bad input ends in one clear line: what, where, the value, what to do."""


class UserError(ValueError):
    """An input that cannot be used. The message is one line; command lines exit with code 2."""
