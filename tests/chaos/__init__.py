"""Kills real processes under load on real servers, then judges what is left. `make chaos`."""
