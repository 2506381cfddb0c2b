"""Exceptions of failed transform lookups."""


class TransformException(Exception):
    """Base class of the exceptions of this module."""


class ConnectivityException(TransformException):
    """Both frames are known, but no chain of transforms connects them."""


class ExtrapolationException(TransformException):
    """The requested time is outside the received time range."""


class InvalidArgumentException(TransformException):
    """An invalid frame name: empty, or with a leading slash."""


class LookupException(TransformException):
    """A frame without any received transform."""
