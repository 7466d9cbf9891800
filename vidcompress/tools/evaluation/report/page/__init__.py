"""Page of results: one HTML file with tables, plots, where rows come from, and single questions with their masks."""
