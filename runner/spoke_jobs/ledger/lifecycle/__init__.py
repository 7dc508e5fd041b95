"""The states of a job from its dispatch to its end: what each transition writes, and its statements."""
