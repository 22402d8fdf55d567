"""Who is the same customer under another spelling: pure, no I/O but reading the tables that are packaged here."""
