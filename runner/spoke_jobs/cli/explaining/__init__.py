"""Decide what to say of a job or a cluster. Pure: values in, values out."""
