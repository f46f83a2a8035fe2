"""What a user can mend: one clear sentence, exit code 2, nothing lost."""


class InputError(ValueError):
    """A file, value or option is wrong. The message names it and says how to mend it, in one sentence."""
