-- Getting at a column takes as long as there are columns before it: those come first by which a few rows of a million
-- are found.
CREATE TABLE {model}.opportunity (
    opportunity_id     uuid PRIMARY KEY,
    partner_id         uuid NOT NULL,
    opened_at          timestamptz NOT NULL,
    stage_entered_at   timestamptz NOT NULL,
    touched_at         timestamptz NOT NULL,
    updated_position   bigint NOT NULL,
    probability        int NOT NULL,
    stage              text NOT NULL,
    status             text NOT NULL,
    stalled_at         timestamptz,
    expected_close_on  date,
    closed_on          date,
    next_action_due_on date,
    amount             numeric,
    currency           text,
    customer           text,
    name               text,
    external_id        text,
    forecast_category  text NOT NULL GENERATED ALWAYS AS (coalesce(forecast_override, category)) STORED,
    -- What a text is looked for in, made when the row is: to put a million names into lower case takes longer than to
    -- look through them. Names of people are not in it.
    searched           text NOT NULL GENERATED ALWAYS AS (lower(
        coalesce(name, '') || chr(10) || coalesce(external_id, '') || chr(10)
        || CASE WHEN customer ~ {token} THEN '' ELSE coalesce(customer, '') END
    )) STORED,
    -- Whether it is a token, whose value in clear is another table's: only then is that looked for.
    customer_sealed    boolean NOT NULL GENERATED ALWAYS AS (coalesce(customer ~ {token}, false)) STORED,
    next_action_sealed boolean NOT NULL GENERATED ALWAYS AS (coalesce(next_action ~ {token}, false)) STORED,
    lead_id            uuid,
    product_lines      text[] NOT NULL,
    deal_type          text,
    category           text NOT NULL,
    forecast_override  text,
    owner              text,
    engaged_at         timestamptz,
    lost_reason        text,
    stalls_at          timestamptz,
    next_action        text,
    next_action_owner  text,
    data_gaps          text[] NOT NULL
) WITH (fillfactor = 80);
-- For the questions of api/indexed.py. What nearly every event changes is in none: an update then stays within its page.
-- Which rows a page shows is read from the index alone, even where few fit.
CREATE INDEX ON {model}.opportunity (opened_at, opportunity_id)
    INCLUDE (partner_id, owner, stage, status, forecast_category, currency, customer_sealed, next_action_sealed);
CREATE INDEX ON {model}.opportunity (partner_id, opened_at, opportunity_id);
CREATE INDEX ON {model}.opportunity (owner, opened_at, opportunity_id);
CREATE INDEX ON {model}.opportunity (stage, status, opened_at, opportunity_id);
CREATE INDEX ON {model}.opportunity (stage, forecast_category, opened_at, opportunity_id);
CREATE INDEX ON {model}.opportunity (forecast_category, status, opened_at, opportunity_id);
-- Stage and status say the same, and so do stage and category: a pair that does not go together is found to be empty by
-- the index, not by walking through the table, and the planner is told how many rows a pair has.
CREATE STATISTICS {model}.opportunity_kinds (mcv)
    ON stage, status, forecast_category FROM {model}.opportunity;

CREATE TABLE {model}.stage_visit (
    opportunity_id uuid NOT NULL,
    number         int NOT NULL,
    stage          text NOT NULL,
    entered_at     timestamptz NOT NULL,
    left_at        timestamptz,
    left_for       text,
    PRIMARY KEY (opportunity_id, number)
) WITH (fillfactor = 80);

-- How many stays in a stage there are of each length in whole days; what lasts has left_for '' and 0 days.
CREATE TABLE {model}.stay (
    partition int NOT NULL,
    stage     text NOT NULL,
    left_for  text NOT NULL,
    days      int NOT NULL,
    stays     bigint NOT NULL,
    PRIMARY KEY (partition, stage, left_for, days)
) WITH (fillfactor = 80);

CREATE TABLE {model}.authorisation (
    partner_id   uuid NOT NULL,
    product_line text NOT NULL,
    valid_to     date,
    PRIMARY KEY (partner_id, product_line)
);
