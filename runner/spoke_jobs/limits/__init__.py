"""An application's limits, rates and pauses: their values, and the decision whether a job may start. Pure."""
