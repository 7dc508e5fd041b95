"""A command in a terminal, recorded as an animated SVG: its output, the screens that it makes, the picture."""
