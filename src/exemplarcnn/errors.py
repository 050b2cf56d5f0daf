"""The one base of all errors that a person can put right."""


class PipelineError(Exception):
    """Something is wrong with data, parameters or the machine; the message says what and what to do.

    Commands and stages print it without a traceback.
    """
