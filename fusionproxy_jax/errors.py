"""The one exception a user is meant to read: a sentence, no traceback."""


class FusionProxyError(Exception):
    """Bad input: one sentence with what was given, what is allowed, what to do.

    The command line prints the sentence and exits with code 2. Not a `ValueError`: the
    parser of options would catch that and print its own box instead.
    """
