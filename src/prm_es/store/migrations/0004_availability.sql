-- Who asked whether a customer is free, and what the answer was.

SET LOCAL ROLE {owner};

CREATE TABLE {store}.availability_questions (
    number         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    asked_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor          text NOT NULL,
    actor_role     text NOT NULL,
    actor_org      text NOT NULL,
    customer_keys  text[] NOT NULL,
    product_lines  text[] NOT NULL,
    policy_version int NOT NULL,
    answer         text NOT NULL CHECK (answer IN ('free', 'protected', 'under_review', 'refused')),
    yours          boolean NOT NULL,
    until          timestamptz,
    code           text,
    CHECK ((answer = 'refused') = (code IS NOT NULL)),
    CHECK ((answer = 'protected') = (until IS NOT NULL))
);
COMMENT ON TABLE {store}.availability_questions IS 'Each question whether a customer is free, with its answer; refused ones too, with their code.';
COMMENT ON COLUMN {store}.availability_questions.customer_keys IS 'As in claims: never an individual''s tax id.';
COMMENT ON COLUMN {store}.availability_questions.product_lines IS 'As asked; empty: every line.';
COMMENT ON COLUMN {store}.availability_questions.yours IS 'Protected for, or registered by, the asker''s own organisation.';
CREATE INDEX availability_questions_org ON {store}.availability_questions (actor_org, asked_at);
CREATE INDEX live_registrations_keys ON {store}.live_registrations USING gin (customer_keys);

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {store}.availability_questions
    FOR EACH STATEMENT EXECUTE FUNCTION {store}.refuse_change();
ALTER TABLE {store}.availability_questions ENABLE ALWAYS TRIGGER append_only;

GRANT SELECT ON {store}.availability_questions TO {writer}, {auditor};
-- The number and the time are the database's own.
GRANT INSERT (actor, actor_role, actor_org, customer_keys, product_lines, policy_version, answer, yours, until, code)
    ON {store}.availability_questions TO {writer};
RESET ROLE;
