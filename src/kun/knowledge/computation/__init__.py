"""Questions that need a calculation: read, matched with tables and facts, run as a small program, put in words."""
