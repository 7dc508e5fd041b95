"""Bring the cluster's objects into the store: watches, and comparisons with listings."""
