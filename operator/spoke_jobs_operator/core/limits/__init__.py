"""The limits, rates, pauses and weights that apply now."""
