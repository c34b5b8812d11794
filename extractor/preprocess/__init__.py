"""A decoded image or text -> the array that the graph takes."""
