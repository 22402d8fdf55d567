-- The log, its answers, its chain, and the guard tables that follow from it.

SET LOCAL ROLE {owner};

CREATE TABLE {store}.store_info (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    store_id   uuid NOT NULL DEFAULT gen_random_uuid(),
    digest_key bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN {store}.store_info.store_id IS 'Random id of this history; changes when a backup is restored.';
COMMENT ON COLUMN {store}.store_info.digest_key IS 'Secret of the keyed digests of commands and of people.';
INSERT INTO {store}.store_info (digest_key)
VALUES (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'));

CREATE TABLE {store}.events (
    originator_id      uuid   NOT NULL,
    originator_version bigint NOT NULL,
    topic              text   NOT NULL,
    state              bytea  NOT NULL,
    notification_id    bigint PRIMARY KEY,
    UNIQUE (originator_id, originator_version)
);
COMMENT ON TABLE {store}.events IS 'The log and the outbox: every event for ever, in gapless positions.';
COMMENT ON COLUMN {store}.events.originator_id IS 'Aggregate id.';
COMMENT ON COLUMN {store}.events.originator_version IS 'Number of the event within its aggregate, from 1.';
COMMENT ON COLUMN {store}.events.topic IS 'Wire name of the event type.';
COMMENT ON COLUMN {store}.events.state IS 'JSON in UTF-8: who, when, why, and the data; convert_from(state, ''UTF8'')::jsonb.';
COMMENT ON COLUMN {store}.events.notification_id IS 'Position in the log, from 1 without a gap, in order of commit.';

CREATE TABLE {store}.commits (
    number         bigint PRIMARY KEY,
    first_position bigint,
    last_position  bigint NOT NULL,
    recorded_at    timestamptz NOT NULL,
    digest         bytea NOT NULL
);
COMMENT ON TABLE {store}.commits IS 'One row a transaction: its positions, its recorded time, and a digest chained to the row before.';
INSERT INTO {store}.commits VALUES (0, NULL, 0, clock_timestamp(), sha256('prm-es'::bytea));

CREATE TABLE {store}.commands (
    source         text NOT NULL,
    id             text NOT NULL,
    digest         bytea NOT NULL,
    type           text NOT NULL,
    subject        uuid NOT NULL,
    actor          text NOT NULL,
    actor_role     text NOT NULL,
    actor_org      text NOT NULL,
    on_behalf_of   text,
    sent_time      timestamptz,
    outcome        text NOT NULL CHECK (outcome IN ('accepted', 'refused')),
    code           text,
    response       bytea NOT NULL,
    first_position bigint,
    last_position  bigint,
    commit_number  bigint NOT NULL,
    recorded_at    timestamptz NOT NULL,
    PRIMARY KEY (source, id)
);
COMMENT ON TABLE {store}.commands IS 'The one outcome of each command; refusals too, with who asked: they are evidence.';
CREATE INDEX commands_subject ON {store}.commands (subject, recorded_at);
CREATE INDEX commits_last ON {store}.commits (last_position);
CREATE INDEX commands_commit ON {store}.commands (commit_number);

CREATE TABLE {store}.reused_ids (
    topic         text NOT NULL,
    partition     int NOT NULL,
    record_offset bigint NOT NULL,
    digest        bytea NOT NULL,
    source        text NOT NULL,
    id            text NOT NULL,
    actor         text NOT NULL,
    response      bytea NOT NULL,
    commit_number bigint NOT NULL,
    recorded_at   timestamptz NOT NULL,
    PRIMARY KEY (topic, partition, record_offset, digest)
);
COMMENT ON TABLE {store}.reused_ids IS 'Records that reused the id of another command with other content, by their place; the first outcome stands.';

CREATE TABLE {store}.dead_letters (
    topic         text NOT NULL,
    partition     int NOT NULL,
    record_offset bigint NOT NULL,
    digest        bytea NOT NULL,
    code          text NOT NULL,
    sentence      text NOT NULL,
    source        text,
    id            text,
    sealed        bytea NOT NULL,
    key_id        uuid NOT NULL,
    commit_number bigint NOT NULL,
    recorded_at   timestamptz NOT NULL,
    PRIMARY KEY (topic, partition, record_offset, digest)
);
COMMENT ON TABLE {store}.dead_letters IS 'Records that no command could be read from: place, reason, and the original bytes and headers, encrypted.';

CREATE INDEX dead_letters_failed ON {store}.dead_letters (source, id) WHERE code = 'command.failed';

CREATE TABLE {store}.keys (
    key_id     uuid PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('person', 'aggregate', 'record')),
    key        bytea NOT NULL,
    created_at timestamptz NOT NULL,
    held       boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE {store}.keys IS 'Keys of what is encrypted in the log; destroying one forgets a person, an aggregate''s free text or a record.';
COMMENT ON COLUMN {store}.keys.held IS 'Never written: UPDATE on it is what lets a reader lock the row FOR SHARE.';

CREATE TABLE {store}.partner_identifiers (
    tax_key    text PRIMARY KEY,
    partner_id uuid NOT NULL
);
COMMENT ON TABLE {store}.partner_identifiers IS 'Guard: one partner a tax id. Follows from the log.';
CREATE INDEX partner_identifiers_partner ON {store}.partner_identifiers (partner_id);

CREATE TABLE {store}.published (
    topic     text NOT NULL,
    topic_id  text NOT NULL,
    partition int NOT NULL,
    position  bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);
COMMENT ON TABLE {store}.published IS 'Position of the last event published to each topic-partition: where the publisher begins to look.';

CREATE FUNCTION {store}.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: % is refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE FUNCTION {store}.check_positions() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    lowest bigint; highest bigint; amount bigint; head bigint;
BEGIN
    SELECT min(notification_id), max(notification_id), count(*) INTO lowest, highest, amount FROM added;
    IF amount = 0 THEN RETURN NULL; END IF;
    SELECT coalesce(max(notification_id), 0) INTO head FROM {store}.events WHERE notification_id < lowest;
    IF lowest <> head + 1 OR highest - lowest + 1 <> amount THEN
        RAISE EXCEPTION 'positions must follow the head without a gap: head %, first %, last %, % rows', head, lowest, highest, amount
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION {store}.check_commit() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    prior {store}.commits;
BEGIN
    SELECT * INTO prior FROM {store}.commits WHERE number < NEW.number ORDER BY number DESC LIMIT 1;
    IF prior.number IS DISTINCT FROM NEW.number - 1 OR NEW.recorded_at < prior.recorded_at
       OR NEW.last_position < prior.last_position
       OR NEW.first_position IS DISTINCT FROM nullif(prior.last_position + 1, NEW.last_position + 1) THEN
        RAISE EXCEPTION 'commit % does not follow commit %', NEW.number, prior.number USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER positions AFTER INSERT ON {store}.events
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION {store}.check_positions();
ALTER TABLE {store}.events ENABLE ALWAYS TRIGGER positions;
CREATE TRIGGER follows AFTER INSERT ON {store}.commits FOR EACH ROW EXECUTE FUNCTION {store}.check_commit();
ALTER TABLE {store}.commits ENABLE ALWAYS TRIGGER follows;

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['events', 'commits', 'commands', 'reused_ids', 'dead_letters'] LOOP
        EXECUTE format(
            'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I.%I
             FOR EACH STATEMENT EXECUTE FUNCTION %I.refuse_change()', {store_name}, name, {store_name});
        EXECUTE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER append_only', {store_name}, name);
    END LOOP;
END $$;

GRANT SELECT, INSERT ON {store}.events, {store}.commits, {store}.commands, {store}.reused_ids, {store}.dead_letters, {store}.keys TO {writer};
GRANT SELECT ON {store}.store_info TO {writer}, {auditor};
GRANT SELECT, INSERT, DELETE ON {store}.partner_identifiers TO {writer};
GRANT SELECT, INSERT, UPDATE ON {store}.published TO {writer};
GRANT SELECT (store_id) ON {store}.store_info TO {projector};
GRANT SELECT ON {store}.events, {store}.commits, {store}.published, {store}.keys TO {projector};
GRANT UPDATE (held) ON {store}.keys TO {projector}, {auditor};
GRANT SELECT ON {store}.events, {store}.commits, {store}.commands, {store}.reused_ids, {store}.dead_letters, {store}.keys,
    {store}.partner_identifiers, {store}.published TO {auditor};
RESET ROLE;
