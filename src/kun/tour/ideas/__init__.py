"""The seventeen ideas, one file each."""
