"""The decision about one SpokeJob: from its observed state to actions and its new status."""
