"""The pages: made on the server, alive by a little script, in the language of who looks at them."""
