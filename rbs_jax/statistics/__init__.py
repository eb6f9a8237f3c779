"""Numbers in, figures out: what every benchmark and every curve is judged by."""
