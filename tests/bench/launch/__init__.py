"""What the operator costs beside plain Jobs: `make bench-launch`."""
