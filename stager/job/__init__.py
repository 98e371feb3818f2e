"""A job on this node: from its file, by its data and its view, to what is kept of it."""
