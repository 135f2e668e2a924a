"""Errors that a user can mend: each prints as one line that names the remedy, and sets the exit code."""

SWEEP_FAILED = 7  # exit code of a sweep in which a job failed


class ImgclsError(Exception):
    """Base of all: the message says what is wrong, where, and what to do about it."""

    exit_code = 1


class ConfigError(ImgclsError):
    """A command or a configuration that cannot run."""

    exit_code = 2


class DataError(ImgclsError):
    """Data that is missing, damaged or does not fit."""

    exit_code = 3


class ResourceError(ImgclsError):
    """Disk, permission, memory or a device that is not there."""

    exit_code = 4


class DivergedError(ImgclsError):
    """The loss or the weights are no longer finite."""

    exit_code = 5


class CheckpointError(ImgclsError):
    """A checkpoint or a run folder that cannot be used."""

    exit_code = 6
