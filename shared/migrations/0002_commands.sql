-- Commands, who has to do them, and what else stands in a user's log.
--
-- The three busy tables are partitioned by day on the UUIDv7 itself: the id alone is the key,
-- so one command is one row however often it is written, and a day is dropped in milliseconds.
-- There is no default partition (it would forbid DETACH … CONCURRENTLY); a week is made ahead
-- by make_partitions().
--
-- `epoch` and `offset` are an entry's position in the log of its user. No foreign keys: they
-- would make dropping a day slow.

-- `body` is the JSON of the command byte for byte as it was sent (content and data stand in
-- it). Text, because jsonb refuses \u0000 and would reorder what a client wrote. A command has
-- no state of its own: its recipients have.
CREATE TABLE commands (
    id            uuid NOT NULL PRIMARY KEY,
    sender_id     uuid NOT NULL,
    command_type  text NOT NULL CHECK (command_type IN ('message', 'task', 'system')),
    broadcast     text NOT NULL,
    categories    text[] NOT NULL,
    body          text NOT NULL,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL
) PARTITION BY RANGE (id);

CREATE TABLE command_assignments (
    command_id    uuid NOT NULL,
    recipient_id  uuid NOT NULL,
    sender_id     uuid NOT NULL,
    state         text NOT NULL DEFAULT 'pending'
                  CHECK (state IN ('pending', 'delivered', 'completed', 'expired', 'cancelled')),
    epoch         bigint NOT NULL,
    "offset"      bigint NOT NULL,
    expires_at    timestamptz NOT NULL,
    delivered_at  timestamptz,
    completed_at  timestamptz,
    PRIMARY KEY (command_id, recipient_id)
) PARTITION BY RANGE (command_id);

-- A user's queue, state by state, in the order of their log: whoever looks for one state does not
-- walk through a history of others.
CREATE INDEX command_assignments_queue ON command_assignments (recipient_id, state, epoch, "offset");

-- What may still expire, and what has expired and waits for the archive.
CREATE INDEX command_assignments_expiry ON command_assignments (expires_at, command_id)
    WHERE state IN ('pending', 'delivered', 'expired');

-- Entries of a user's log that are no commands: `command.status`. One index for both, the
-- question "what came after" and "is it here already" (id and position are given together).
CREATE TABLE user_events (
    id            uuid NOT NULL,
    user_id       uuid NOT NULL,
    epoch         bigint NOT NULL,
    "offset"      bigint NOT NULL,
    kind          text NOT NULL,
    body          text NOT NULL,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (user_id, epoch, "offset", id)
) PARTITION BY RANGE (id);

-- Expired commands, until retention.archive has passed.
CREATE TABLE commands_archive (
    id            uuid NOT NULL,
    recipient_id  uuid NOT NULL,
    sender_id     uuid NOT NULL,
    command_type  text NOT NULL,
    broadcast     text NOT NULL,
    categories    text[] NOT NULL,
    body          text NOT NULL,
    status        text NOT NULL DEFAULT 'expired',
    epoch         bigint NOT NULL,
    "offset"      bigint NOT NULL,
    created_at    timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    delivered_at  timestamptz,
    archived_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (id, recipient_id)
);

CREATE INDEX commands_archive_recipient ON commands_archive (recipient_id, epoch, "offset");
CREATE INDEX commands_archive_age ON commands_archive (archived_at);
