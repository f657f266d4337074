"""Weakly supervised video anomaly detection in JAX and Flax.

Importing the package itself loads nothing heavy; each program and submodule imports
what it uses.
"""

__version__ = "0.1.0"
