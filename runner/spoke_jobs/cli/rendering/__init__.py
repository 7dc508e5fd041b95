"""How it is printed: tables, bars, lines for programs, JSON."""
