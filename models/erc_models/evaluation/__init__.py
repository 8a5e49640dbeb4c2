"""How good a network is, and the records and tables of that."""
