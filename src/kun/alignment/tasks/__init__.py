"""The training tasks of this room, one file each: a file that defines one registers it by lying here."""
