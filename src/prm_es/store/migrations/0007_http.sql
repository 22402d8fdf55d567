-- Who asks over HTTP: the vendor's people as reader, a partner's as portal, which row-level security holds to its rows.
-- Both may see positions, for how fresh the rows are.

SET LOCAL ROLE {owner};
GRANT USAGE ON SCHEMA {read} TO {portal};
GRANT USAGE ON SCHEMA {projections}, {store} TO {reader}, {portal};
GRANT SELECT ON {projections}.generations, {projections}.checkpoints, {store}.published TO {reader}, {portal};
GRANT SELECT (number, first_position, last_position, recorded_at) ON {store}.commits TO {reader}, {portal};
RESET ROLE;
