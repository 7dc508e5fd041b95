"""Record a command in a terminal as an animated SVG: capture its output, compute the screens, draw the picture."""
