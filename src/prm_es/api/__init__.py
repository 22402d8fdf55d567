"""HTTP: queries over the read models, commands, and the pages; who may see what is decided here and in the database."""
