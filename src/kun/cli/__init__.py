"""The command line: it parses and prints, and calls `kun.api` for everything else."""

from kun.cli.app import main

__all__ = ["main"]
