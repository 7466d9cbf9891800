"""What measures, compares and examines: built on the package, and imported by nothing in it but the command line."""
