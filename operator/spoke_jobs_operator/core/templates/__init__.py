"""PodTemplates: whether a SpokeJob may use one, and the Job that is built from it."""
