"""Files to text, whatever the file is, by its content and not only by its name."""
