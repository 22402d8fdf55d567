-- The histories of this store: another one begins when a backup is restored or the topics are filled anew.

SET LOCAL ROLE {owner};
CREATE TABLE {store}.histories (
    number         int PRIMARY KEY,
    store_id       uuid NOT NULL UNIQUE,
    after_position bigint NOT NULL,
    began_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    cause          text NOT NULL CHECK (cause IN ('installed', 'restored', 'repaired'))
);
COMMENT ON TABLE {store}.histories IS 'Each id that the store had: what lies behind after_position was recorded under it, or under a later one.';
INSERT INTO {store}.histories SELECT 0, store_id, 0, created_at, 'installed' FROM {store}.store_info;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {store}.histories
    FOR EACH STATEMENT EXECUTE FUNCTION {store}.refuse_change();
ALTER TABLE {store}.histories ENABLE ALWAYS TRIGGER append_only;
GRANT SELECT ON {store}.histories TO {writer}, {projector}, {auditor};
RESET ROLE;
