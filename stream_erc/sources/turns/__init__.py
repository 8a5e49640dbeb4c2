"""Readers of files of turns, one for each family of formats; `stream_erc.sources.turn_files` is the door."""
