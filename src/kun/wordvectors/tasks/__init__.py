"""The training tasks of the stage `vectors`, one file each."""
