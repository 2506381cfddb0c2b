"""Why a transform could not be looked up."""


class TransformException(Exception):
    """Base of all of these."""


class ConnectivityException(TransformException):
    """Both frames are known, but no chain of transforms connects them."""


class ExtrapolationException(TransformException):
    """The time asked for lies outside of what was received."""


class InvalidArgumentException(TransformException):
    """A frame name that cannot be one: empty, or with a leading slash."""


class LookupException(TransformException):
    """A frame of which nothing was received."""
