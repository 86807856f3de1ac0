-- Commands for many: one row each, a row per recipient only once somebody confirms or completes.

-- The place of a broadcast in the log of broadcasts; a direct command's is that of its assignment.
-- `ended` is the end of a broadcast for everybody: expired or cancelled.
ALTER TABLE commands
    ADD COLUMN epoch bigint,
    ADD COLUMN "offset" bigint,
    ADD COLUMN ended text CHECK (ended IN ('expired', 'cancelled')),
    ADD COLUMN ended_at timestamptz;

-- The log of broadcasts beyond what Redis holds. What else stands in that log is in user_events,
-- under the nil UUID.
CREATE INDEX commands_broadcast ON commands (epoch, "offset") WHERE broadcast <> 'user';
-- Broadcasts that may still expire, and those that have and wait for the archive.
CREATE INDEX commands_broadcast_expiry ON commands (expires_at, id)
    WHERE broadcast <> 'user' AND (ended IS NULL OR ended = 'expired');
-- What somebody has sent, newest first.
CREATE INDEX commands_sender ON commands (sender_id, id);

-- Of a broadcast's recipient nothing but the state is known: the rest is the command's own.
ALTER TABLE command_assignments
    ALTER COLUMN sender_id DROP NOT NULL,
    ALTER COLUMN epoch DROP NOT NULL,
    ALTER COLUMN "offset" DROP NOT NULL,
    ALTER COLUMN expires_at DROP NOT NULL;

-- As before, without the recipients of broadcasts: they expire with their command.
CREATE INDEX command_assignments_due ON command_assignments (expires_at, command_id)
    WHERE state IN ('pending', 'delivered', 'expired') AND expires_at IS NOT NULL;
DROP INDEX command_assignments_expiry;

-- What has ended for a user, newest first. Of what was a broadcast only the command has a place
-- in a log, and not in the user's: ids are the one order that all share.
CREATE INDEX command_assignments_history ON command_assignments (recipient_id, state, command_id)
    WHERE state IN ('completed', 'expired', 'cancelled');
CREATE INDEX commands_archive_history ON commands_archive (recipient_id, id);
DROP INDEX commands_archive_recipient;

-- An expired broadcast is archived once, under the nil UUID as its recipient.
CREATE INDEX commands_archive_sender ON commands_archive (sender_id, id);

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
