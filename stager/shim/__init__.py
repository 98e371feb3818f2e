"""What a job's scripts import that were written for a platform: a directory for their PYTHONPATH."""

from __future__ import annotations

import os

__all__ = ["DIRECTORY"]

DIRECTORY = os.path.dirname(os.path.abspath(__file__))
"""Holds modules under the names that such scripts import. Not Final: `typing` takes as long as Python to start."""
