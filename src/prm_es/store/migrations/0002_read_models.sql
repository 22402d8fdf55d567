-- Bookkeeping of the read models. Their tables live in a schema of their own a generation; people read through {read}.

CREATE SCHEMA {projections} AUTHORIZATION {owner};
CREATE SCHEMA {read} AUTHORIZATION {owner};
SET LOCAL ROLE {owner};

CREATE TABLE {projections}.generations (
    name       text NOT NULL,
    generation int NOT NULL,
    version    int NOT NULL,
    status     text NOT NULL CHECK (status IN ('building', 'live', 'old')),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, generation)
);
COMMENT ON TABLE {projections}.generations IS 'Each read model''s tables: the live ones and those that a rebuild is making. version is the program''s.';
CREATE UNIQUE INDEX one_live ON {projections}.generations (name) WHERE status = 'live';

CREATE TABLE {projections}.checkpoints (
    name       text NOT NULL,
    generation int NOT NULL,
    topic      text NOT NULL,
    partition  int NOT NULL,
    position   bigint NOT NULL,
    PRIMARY KEY (name, generation, topic, partition),
    FOREIGN KEY (name, generation) REFERENCES {projections}.generations ON DELETE CASCADE
) WITH (fillfactor = 50);
COMMENT ON TABLE {projections}.checkpoints IS 'Position of the last event of a topic-partition that the rows contain; written in the rows'' own transaction.';

CREATE TABLE {projections}.dead_letters (
    name         text NOT NULL,
    generation   int NOT NULL,
    position     bigint NOT NULL,
    aggregate_id uuid NOT NULL,
    reason       text NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (name, generation, position),
    FOREIGN KEY (name, generation) REFERENCES {projections}.generations ON DELETE CASCADE
);
COMMENT ON TABLE {projections}.dead_letters IS 'Events that a fold could not take, and the later events of the same aggregate, which wait behind them in order.';
CREATE INDEX dead_letters_aggregate ON {projections}.dead_letters (name, generation, aggregate_id);

GRANT USAGE ON SCHEMA {projections} TO {projector}, {auditor};
GRANT SELECT ON ALL TABLES IN SCHEMA {projections} TO {projector}, {auditor};
GRANT UPDATE ON {projections}.checkpoints TO {projector};
GRANT UPDATE (status) ON {projections}.generations TO {projector};
GRANT INSERT, DELETE ON {projections}.dead_letters TO {projector};
GRANT USAGE ON SCHEMA {read} TO {projector}, {reader}, {auditor};
RESET ROLE;
