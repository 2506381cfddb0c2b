"""The error of studies."""


class StudyError(ValueError):
    """A study that is impossible with the given model or data; says what is missing."""
