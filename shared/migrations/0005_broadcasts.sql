-- Commands for many: one row each, a row per recipient only once somebody confirms or completes.

-- The place of a broadcast in the log of broadcasts; a direct command's is that of its assignment.
-- `ended` is the end of a broadcast for everybody: expired or cancelled.
ALTER TABLE commands
    ADD COLUMN epoch bigint,
    ADD COLUMN "offset" bigint,
    ADD COLUMN ended text CHECK (ended IN ('expired', 'cancelled')),
    ADD COLUMN ended_at timestamptz;

-- The log of broadcasts beyond what Redis holds.
CREATE INDEX commands_broadcast ON commands (epoch, "offset") WHERE broadcast <> 'user';
-- Broadcasts that may still expire.
CREATE INDEX commands_broadcast_expiry ON commands (expires_at, id)
    WHERE broadcast <> 'user' AND ended IS NULL;
-- What somebody has sent, newest first.
CREATE INDEX commands_sender ON commands (sender_id, id);

-- Of a broadcast's recipient nothing but the state is known: the rest is the command's own.
ALTER TABLE command_assignments
    ALTER COLUMN sender_id DROP NOT NULL,
    ALTER COLUMN epoch DROP NOT NULL,
    ALTER COLUMN "offset" DROP NOT NULL,
    ALTER COLUMN expires_at DROP NOT NULL;

-- What users chose. The position is that of the entry in the user's log: a later choice wins, in
-- whatever order two are written.
CREATE TABLE user_preferences (
    user_id       uuid PRIMARY KEY,
    blocked       text[] NOT NULL,
    allowed       text[] NOT NULL,
    epoch         bigint NOT NULL,
    "offset"      bigint NOT NULL,
    updated_at    timestamptz NOT NULL
);
