"""The one exception that stands for a user's mistake."""


class UserError(Exception):
    """Something the user can mend: bad input, a wrong setting, a missing file.

    The message is one line that says what is wrong, where (file, line, field)
    and what to do. The command line prints it without a traceback and exits
    with status 2; every other exception is a defect of ours and keeps its
    traceback.
    """
