"""The pictures of the handbook, drawn by code: SVG with labels in English or Chinese."""
