"""Decide what to say about a job or a cluster. Pure: values in, values out."""
