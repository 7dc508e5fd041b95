"""Queries for people: the command line and `why`. They change nothing."""
