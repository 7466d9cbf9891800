"""Commands that say whether compression pays: `tune`, and `bench` against servers."""
