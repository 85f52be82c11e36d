"""Files of a task."""

from collections.abc import Callable
from pathlib import Path

Write = Callable[[str, str], Path]
"""From a file's name and content to where it was written."""
