-- What the worker of deadlines has sent, and what it may see of the answers.

SET LOCAL ROLE {owner};
CREATE TABLE {projections}.deadline_attempts (
    aggregate_id uuid NOT NULL,
    kind         text NOT NULL,
    due_at       timestamptz NOT NULL,
    set_position bigint NOT NULL,
    attempt      int NOT NULL,
    command_id   text NOT NULL,
    sent_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (aggregate_id, kind, due_at, set_position)
);
COMMENT ON TABLE {projections}.deadline_attempts IS 'The last command sent for each deadline that stands. Only saves sending again.';
GRANT SELECT, INSERT, UPDATE, DELETE ON {projections}.deadline_attempts TO {projector};
GRANT SELECT ON {projections}.deadline_attempts TO {auditor};
GRANT SELECT (source, id, outcome, code) ON {store}.commands TO {projector};
RESET ROLE;
