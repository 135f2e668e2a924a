"""imgcls: train, test and compare image classifiers from one command. Imports nothing heavy."""

__version__ = "0.1.0"
