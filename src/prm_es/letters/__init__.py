"""Dead letters: what is there, all about one, and what people do about them."""
