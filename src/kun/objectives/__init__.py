"""Text's training tasks, a file each; what they share is in `text`."""
