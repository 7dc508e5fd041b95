"""SpokeJob and SpokeLimit: their fields, their definitions, and the table of all kinds of objects with their rights."""
