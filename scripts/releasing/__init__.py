"""What `make release` does in Python: normal images and SBOMs, provenance, signatures, and the check of all of it."""
