CREATE TABLE {model}.holder (
    aggregate_id uuid PRIMARY KEY,
    partner_id   uuid,
    closed       boolean NOT NULL
) WITH (fillfactor = 80);

CREATE TABLE {model}.deadline (
    aggregate_id uuid NOT NULL,
    kind         text NOT NULL,
    due_at       timestamptz NOT NULL,
    set_position bigint NOT NULL,
    late         boolean NOT NULL,
    done         boolean NOT NULL,
    PRIMARY KEY (aggregate_id, kind, due_at)
) WITH (fillfactor = 80);
CREATE INDEX ON {model}.deadline (due_at) WHERE NOT done;
