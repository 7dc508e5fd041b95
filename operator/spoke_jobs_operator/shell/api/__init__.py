"""Calls to the API server, within bounds of rate and memory."""
