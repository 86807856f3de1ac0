-- Conversations, what is said in them, and bots.

-- A bot is a user that is a program; it logs in with a key instead of a password.
ALTER TABLE users ADD COLUMN is_bot boolean NOT NULL DEFAULT false;

-- Only the hash of a key is kept: SHA-256, keys are random.
CREATE TABLE api_keys (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL REFERENCES users,
    hash          bytea NOT NULL UNIQUE,
    title         text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    revoked_at    timestamptz
);

CREATE INDEX api_keys_user ON api_keys (user_id);

-- `pair` is set in a DIRECT one: both users, the lesser id first. `version` rises with every
-- change of participants, roles, title or archive. `epoch` and `offset`: how far the conversation's
-- log is written here.
CREATE TABLE conversations (
    id            uuid PRIMARY KEY,
    type          text NOT NULL CHECK (type IN ('DIRECT', 'GROUP')),
    title         text,
    pair          text UNIQUE CHECK ((pair IS NOT NULL) = (type = 'DIRECT')),
    created_by    uuid NOT NULL REFERENCES users,
    created_at    timestamptz NOT NULL,
    archived_at   timestamptz,
    version       bigint NOT NULL DEFAULT 1,
    last_message  uuid,
    active_at     timestamptz NOT NULL,
    epoch         bigint NOT NULL DEFAULT 0,
    "offset"      bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 80);

-- What may be archived for having been idle.
CREATE INDEX conversations_idle ON conversations (active_at) WHERE archived_at IS NULL;

-- Who left stays, with the version at which that was: who took part at an earlier one is still owed
-- what was said then. The pointers name messages; ids grow in the order of the conversation.
CREATE TABLE conversation_participants (
    conversation_id uuid NOT NULL REFERENCES conversations,
    user_id       uuid NOT NULL REFERENCES users,
    role          text NOT NULL CHECK (role IN ('ADMIN', 'MEMBER')),
    joined_at     timestamptz NOT NULL,
    joined        bigint NOT NULL,
    left_at       timestamptz,
    left_version  bigint,
    muted_until   timestamptz,
    last_read     uuid,
    last_delivered uuid,
    PRIMARY KEY (conversation_id, user_id)
) WITH (fillfactor = 80);

CREATE INDEX conversation_participants_user ON conversation_participants (user_id, conversation_id)
    WHERE left_version IS NULL;

-- Changes that Redis has not been told of for sure: written with the change, removed once its
-- system message is in the conversation's log. A worker tells what a gateway left.
CREATE TABLE conversation_changes (
    conversation_id uuid NOT NULL REFERENCES conversations,
    version       bigint NOT NULL,
    body          text NOT NULL,
    at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, version)
);

-- `body` is the JSON of the message as it is stored in Redis, with its content perhaps encrypted;
-- an edit replaces it. Position: in the conversation's log.
CREATE TABLE messages (
    id            uuid NOT NULL PRIMARY KEY,
    conversation_id uuid NOT NULL,
    sender_id     uuid NOT NULL,
    sender_type   text NOT NULL CHECK (sender_type IN ('USER', 'SYSTEM', 'BOT')),
    body          text NOT NULL,
    epoch         bigint NOT NULL,
    "offset"      bigint NOT NULL,
    created_at    timestamptz NOT NULL,
    edited_at     timestamptz,
    deleted_at    timestamptz
) PARTITION BY RANGE (id);

-- History, newest first; and what came after a position of the log.
CREATE INDEX messages_history ON messages (conversation_id, id);
CREATE INDEX messages_log ON messages (conversation_id, epoch, "offset");

-- Days on which something was said: history looks at no others.
CREATE TABLE conversation_days (
    conversation_id uuid NOT NULL,
    day           date NOT NULL,
    PRIMARY KEY (conversation_id, day)
);

-- Copies of messages in users' logs: only which, the message itself is in `messages`. The id is that
-- of the entry.
CREATE TABLE inbox (
    id            uuid NOT NULL,
    user_id       uuid NOT NULL,
    epoch         bigint NOT NULL,
    "offset"      bigint NOT NULL,
    kind          text NOT NULL,
    message_id    uuid NOT NULL,
    created_at    timestamptz NOT NULL,
    PRIMARY KEY (user_id, epoch, "offset", id)
) PARTITION BY RANGE (id);

-- As before, for two tables more.
CREATE OR REPLACE VIEW daily_partitions AS
SELECT parent.relname::text AS parent,
       child.relname::text AS name,
       to_date(right(child.relname, 8), 'YYYYMMDD') AS day,
       link.inhdetachpending AS detaching
FROM pg_inherits link
JOIN pg_class parent ON parent.oid = link.inhparent
JOIN pg_class child ON child.oid = link.inhrelid
WHERE link.inhparent IN (
    'commands'::regclass, 'command_assignments'::regclass, 'user_events'::regclass,
    'messages'::regclass, 'inbox'::regclass
) AND child.relkind = 'r';

CREATE OR REPLACE FUNCTION make_partitions(ahead integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    made integer := 0;
    busy text;
    this_day date;
BEGIN
    FOREACH busy IN ARRAY ARRAY['commands', 'command_assignments', 'user_events', 'messages', 'inbox'] LOOP
        SELECT least(today - 1, max(day) + 1) INTO this_day FROM daily_partitions WHERE parent = busy;
        this_day := coalesce(this_day, today - 1);
        WHILE this_day <= today + ahead LOOP
            made := made + make_partition(busy, this_day);
            this_day := this_day + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

CREATE OR REPLACE FUNCTION make_days(days date[]) RETURNS date[]
LANGUAGE plpgsql AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    absurd date[] := '{}';
    this_day date;
BEGIN
    FOREACH this_day IN ARRAY days LOOP
        IF abs(this_day - today) > 366 THEN
            absurd := absurd || this_day;
        ELSE
            PERFORM make_partition('commands', this_day),
                    make_partition('command_assignments', this_day),
                    make_partition('user_events', this_day),
                    make_partition('messages', this_day),
                    make_partition('inbox', this_day);
        END IF;
    END LOOP;
    RETURN absurd;
END
$$;
