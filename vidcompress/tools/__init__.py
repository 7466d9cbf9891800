"""Tools on top of the package: evaluation, benchmark, cost, doctor and runs; only the command line imports them."""
