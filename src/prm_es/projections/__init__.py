"""The read models, each a file: name, version, tables, and a pure fold from events to rows."""
