"""Result files to leaderboards, tables and plots."""
