"""What ends a command early: a mistake of the user, or a request to leave."""


class UserError(Exception):
    """Something the user can mend: bad input, a wrong setting, a missing file.

    The message is one line that says what is wrong, where (file, line, field)
    and what to do. The command line prints it without a traceback and exits
    with status 2; every other exception is a defect of ours and keeps its
    traceback.
    """


class Preempted(Exception):
    """A run was asked to leave, by SIGTERM, and has saved where it stands.

    The command line prints it and exits with status 75, "try again later": whoever
    started the command should start it again.
    """
