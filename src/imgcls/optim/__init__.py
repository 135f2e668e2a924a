"""Optimisation: what decays, and how the learning rate moves."""
