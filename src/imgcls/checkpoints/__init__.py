"""Checkpoints: there is a good one at every moment, and a bad one is never used."""

from imgcls.checkpoints.keeper import Keeper, Stopped
from imgcls.checkpoints.loading import load, newest
from imgcls.checkpoints.writing import AtomicIO, write_whole

__all__ = ["AtomicIO", "Keeper", "Stopped", "load", "newest", "write_whole"]
