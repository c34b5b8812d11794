"""A decoded item -> the array that the graph takes."""
