"""InputError: an error that the user can correct; the command line prints it and exits with code 2."""


class InputError(ValueError):
    """A file, value or option is wrong. The message names it and says how to mend it, in one sentence."""
