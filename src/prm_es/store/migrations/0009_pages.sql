-- What people keep on the pages: views of tables, theirs alone. No part of the log, and nothing is decided by it.

SET LOCAL ROLE {owner};
CREATE TABLE {store}.saved_views (
    actor     text NOT NULL,
    actor_org text NOT NULL,
    page      text NOT NULL,
    name      text NOT NULL,
    query     text NOT NULL,
    saved_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (actor, actor_org, page, name)
);
COMMENT ON TABLE {store}.saved_views IS 'Filters and order of a table under a name, by who keeps them.';
GRANT SELECT, INSERT, UPDATE, DELETE ON {store}.saved_views TO {writer};

-- What was asked for over HTTP, for those who asked: what upstream systems send is not in it.
CREATE INDEX commands_asked ON {store}.commands (actor_org, recorded_at) WHERE source LIKE 'api:%';
RESET ROLE;
