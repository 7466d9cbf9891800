"""Reports: from result files to leaderboards, tables and plots."""
