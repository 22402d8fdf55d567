CREATE TABLE {model}.partner (
    partner_id       uuid PRIMARY KEY,
    external_id      text,
    name             text,
    legal_name       text,
    status           text NOT NULL,
    types            text[] NOT NULL,
    country          text,
    territories      text[] NOT NULL,
    tier             text,
    channel_manager  text,
    parent_id        uuid,
    on_notice        boolean NOT NULL,
    since            timestamptz NOT NULL,
    data_gaps        text[] NOT NULL,
    updated_position bigint NOT NULL
) WITH (fillfactor = 80);
