"""Sources of conversations: recordings, microphones, and files of turns that are known beforehand."""
