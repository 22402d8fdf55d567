-- What was done to dead letters, by whom and why. Nothing of it is ever changed; what is still open follows from it.

SET LOCAL ROLE {owner};

CREATE TABLE {store}.dead_letter_actions (
    number        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    done_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    action        text NOT NULL CHECK (action IN ('retry', 'discard')),
    actor         text NOT NULL CHECK (actor <> ''),
    reason        text NOT NULL CHECK (reason <> ''),
    topic         text NOT NULL,
    partition     int NOT NULL,
    record_offset bigint NOT NULL,
    digest        bytea NOT NULL,
    sent_digest   bytea UNIQUE,
    source        text,
    id            text,
    FOREIGN KEY (topic, partition, record_offset, digest) REFERENCES {store}.dead_letters,
    CHECK ((action = 'retry') = (sent_digest IS NOT NULL))
);
COMMENT ON TABLE {store}.dead_letter_actions IS 'Records sent again to their topic-partition, written before they are sent, and those discarded.';
COMMENT ON COLUMN {store}.dead_letter_actions.sent_digest IS 'Of the bytes that are sent: no other record has it, so it finds what became of this one.';
COMMENT ON COLUMN {store}.dead_letter_actions.id IS 'With source: the command, where one could be read from the bytes when they were sent again.';
CREATE INDEX dead_letter_actions_letter ON {store}.dead_letter_actions (topic, partition, record_offset, digest);
CREATE UNIQUE INDEX dead_letter_actions_discard ON {store}.dead_letter_actions (topic, partition, record_offset, digest)
    WHERE action = 'discard';

CREATE VIEW {store}.dead_letter_states WITH (security_invoker = true) AS
SELECT d.topic, d.partition, d.record_offset, d.digest, d.code, d.sentence, d.source, d.id, d.recorded_at,
    CASE
        WHEN d.code = 'command.failed' AND EXISTS (
            SELECT FROM {store}.commands c WHERE c.source = d.source AND c.id = d.id) THEN 'answered'
        WHEN NOT EXISTS (
            SELECT FROM {store}.dead_letter_actions a
            WHERE (a.topic, a.partition, a.record_offset, a.digest) = (d.topic, d.partition, d.record_offset, d.digest)
        ) THEN 'open'
        ELSE (
            SELECT CASE
                WHEN bool_or(a.action = 'discard') THEN 'discarded'
                WHEN bool_or(EXISTS (SELECT FROM {store}.commands c WHERE c.source = a.source AND c.id = a.id)
                    OR EXISTS (SELECT FROM {store}.reused_ids r WHERE (r.topic, r.partition, r.digest) = (a.topic, a.partition, a.sent_digest)))
                    THEN 'answered'
                WHEN bool_or(EXISTS (SELECT FROM {store}.dead_letters n WHERE (n.topic, n.partition, n.digest) = (a.topic, a.partition, a.sent_digest)))
                    THEN 'dead again'
                ELSE 'retried'
            END
            FROM {store}.dead_letter_actions a
            WHERE (a.topic, a.partition, a.record_offset, a.digest) = (d.topic, d.partition, d.record_offset, d.digest))
    END AS state
FROM {store}.dead_letters d;
COMMENT ON VIEW {store}.dead_letter_states IS 'Dead letters and what became of them: open and retried (not answered yet) wait for somebody, the others are closed.';

CREATE TABLE {store}.parked_event_actions (
    number       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    done_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    action       text NOT NULL CHECK (action IN ('retry', 'discard')),
    actor        text NOT NULL CHECK (actor <> ''),
    reason       text NOT NULL CHECK (reason <> ''),
    model        text NOT NULL,
    version      int NOT NULL,
    position     bigint NOT NULL,
    aggregate_id uuid NOT NULL,
    parked_at    timestamptz NOT NULL,
    cause        text NOT NULL,
    folded       int
);
COMMENT ON TABLE {store}.parked_event_actions IS 'Events that a read model could not take and that were folded again or discarded: a discarded one is skipped by this version of it for ever.';
COMMENT ON COLUMN {store}.parked_event_actions.folded IS 'How many events this folded; NULL where the worker of an ordered read model does it afterwards.';
CREATE INDEX parked_event_actions_event ON {store}.parked_event_actions (model, version, position);
CREATE UNIQUE INDEX parked_event_actions_discard ON {store}.parked_event_actions (model, version, position)
    WHERE action = 'discard';

DO $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['dead_letter_actions', 'parked_event_actions'] LOOP
        EXECUTE format(
            'CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON %I.%I
             FOR EACH STATEMENT EXECUTE FUNCTION %I.refuse_change()', {store_name}, name, {store_name});
        EXECUTE format('ALTER TABLE %I.%I ENABLE ALWAYS TRIGGER append_only', {store_name}, name);
    END LOOP;
END $$;

GRANT SELECT ON {store}.dead_letter_actions, {store}.dead_letter_states TO {writer}, {auditor};
GRANT SELECT ON {store}.parked_event_actions TO {projector}, {auditor};
-- The number and the time are the database's own.
GRANT INSERT (action, actor, reason, topic, partition, record_offset, digest, sent_digest, source, id)
    ON {store}.dead_letter_actions TO {writer};
GRANT INSERT (action, actor, reason, model, version, position, aggregate_id, parked_at, cause, folded)
    ON {store}.parked_event_actions TO {projector};
RESET ROLE;
