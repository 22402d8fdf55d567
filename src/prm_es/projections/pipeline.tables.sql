CREATE TABLE {model}.opportunity (
    opportunity_id     uuid PRIMARY KEY,
    external_id        text,
    name               text,
    partner_id         uuid NOT NULL,
    lead_id            uuid,
    customer           text,
    product_lines      text[] NOT NULL,
    deal_type          text,
    stage              text NOT NULL,
    status             text NOT NULL,
    probability        int NOT NULL,
    category           text NOT NULL,
    forecast_override  text,
    amount             numeric,
    currency           text,
    owner              text,
    opened_at          timestamptz NOT NULL,
    engaged_at         timestamptz,
    expected_close_on  date,
    closed_on          date,
    lost_reason        text,
    stage_entered_at   timestamptz NOT NULL,
    touched_at         timestamptz NOT NULL,
    stalls_at          timestamptz,
    stalled_at         timestamptz,
    next_action        text,
    next_action_due_on date,
    next_action_owner  text,
    data_gaps          text[] NOT NULL,
    updated_position   bigint NOT NULL
) WITH (fillfactor = 80);
-- For the questions of api/indexed.py. What nearly every event changes is in none: an update then stays within its page.
CREATE INDEX ON {model}.opportunity (opened_at, opportunity_id);
CREATE INDEX ON {model}.opportunity (partner_id, opened_at, opportunity_id);
CREATE INDEX ON {model}.opportunity (owner, opened_at, opportunity_id);
CREATE INDEX ON {model}.opportunity (stage, status, opened_at, opportunity_id);
CREATE INDEX ON {model}.opportunity (coalesce(forecast_override, category), status, opened_at, opportunity_id);
CREATE INDEX ON {model}.opportunity (amount, opportunity_id);
CREATE INDEX ON {model}.opportunity (expected_close_on, opportunity_id);
-- Stage and status say the same, and so do stage and category: a pair that does not go together is found to be empty by
-- the index, not by walking through the table, and the planner is told how many rows a pair has.
CREATE STATISTICS {model}.opportunity_kinds (mcv)
    ON stage, status, (coalesce(forecast_override, category)) FROM {model}.opportunity;

CREATE TABLE {model}.stage_visit (
    opportunity_id uuid NOT NULL,
    number         int NOT NULL,
    stage          text NOT NULL,
    entered_at     timestamptz NOT NULL,
    left_at        timestamptz,
    left_for       text,
    PRIMARY KEY (opportunity_id, number)
) WITH (fillfactor = 80);
