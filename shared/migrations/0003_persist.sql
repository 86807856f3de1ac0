-- The write-behind: how far each partition's persist stream has been written.

-- `position` is the id of the last record written, moved in the transaction that writes it.
-- `token` rises whenever a worker takes the partition over; a transaction of an earlier holder
-- finds no row and fails. Half-filled pages, so that updates stay on the page (HOT).
CREATE TABLE persist_positions (
    partition     integer PRIMARY KEY,
    position      text NOT NULL,
    token         bigint NOT NULL,
    updated_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- Records that could not be written, with the reason: for a person to look at.
CREATE TABLE quarantine (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    partition     integer NOT NULL,
    record_id     text NOT NULL,
    reason        text NOT NULL,
    record        bytea NOT NULL,
    buried_at     timestamptz NOT NULL DEFAULT now()
);
