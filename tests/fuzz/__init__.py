"""A fuzzer on the command door: what comes in is answered or becomes a dead letter, once, and nothing falls over."""
