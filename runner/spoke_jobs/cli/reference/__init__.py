"""docs/reference, written from the code: a page cannot fall behind what it describes."""
