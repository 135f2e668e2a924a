"""Errors that a user can mend: each prints as one line that names the remedy, and sets the exit code."""

SWEEP_FAILED = 7  # exit code of a sweep in which a job failed


# What torch says of a machine that is too small, and what to say of it
MEMORY = "out of memory. Lower batch_size, or raise accumulate."
SHARED = "shared memory (/dev/shm) is full. Use dataset.num_workers=0, or make it larger."
TROUBLES = {
    "can't allocate memory": MEMORY,
    "unable to allocate shared memory": SHARED,
    "out of shared memory": SHARED,
    "DataLoader worker (pid": "a process that reads images has died, most likely for want of memory. "
    "Lower dataset.num_workers or batch_size, then give the same command.",
    "DataLoader timed out": "no images came for minutes: reading them hangs. See that the disk of "
    "dataset.root answers, then give the same command.",
}


def resource_trouble(error: Exception) -> str | None:
    """A line on an error that only says that memory, or the process that reads images, is gone; else None."""
    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__:
        return MEMORY
    return next((line for words, line in TROUBLES.items() if words in Exception.__str__(error)), None)


def printable(text: str) -> str:
    """Text on one line that a terminal takes: names of files may hold line breaks, escapes and odd bytes."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class ImgclsError(Exception):
    """Base of all: the message says what is wrong, where, and what to do about it."""

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


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
    """The loss, a gradient or a weight is no longer finite.

    Args:
        where: the epoch and the optimizer step, both from 1, and the learning rate.
    """

    exit_code = 5

    def __init__(self, message: str, **where: float) -> None:
        super().__init__(message)
        self.where = where


class CheckpointError(ImgclsError):
    """A checkpoint or a run folder that cannot be used."""

    exit_code = 6
