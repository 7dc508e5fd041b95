"""Generate docs/reference from the code, so that the pages and the code agree."""
