"""Rules that pick one of a prompt's candidates."""
