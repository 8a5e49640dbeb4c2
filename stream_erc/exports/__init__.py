"""Conversations as files for other programs: the turns in the end, as subtitles, tables and annotations."""
