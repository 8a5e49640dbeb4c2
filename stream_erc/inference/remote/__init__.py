"""Work on other machines: a Ray cluster, its actors that hold engines, and the worker that asks them."""
