"""Sweeps: jobs in worker processes, watched while they run and compared when they are done."""
