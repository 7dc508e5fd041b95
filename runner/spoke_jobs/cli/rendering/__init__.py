"""Print what was read and decided: tables and bars for people, lines and JSON for programs."""
