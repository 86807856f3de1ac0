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
-- log is written here. `last_message` is the newest message that is.
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
CREATE INDEX conversations_idle ON conversations (active_at, id) WHERE archived_at IS NULL;

-- Who left stays, with the version at which that was: who took part at an earlier one is still owed
-- what was said then. The pointers name messages; ids grow in the order of the conversation.
-- `since` is the least id of what was said after they came, last: what is older needs no confirming.
CREATE TABLE conversation_participants (
    conversation_id uuid NOT NULL REFERENCES conversations,
    user_id       uuid NOT NULL REFERENCES users,
    role          text NOT NULL CHECK (role IN ('ADMIN', 'MEMBER')),
    joined_at     timestamptz NOT NULL,
    joined        bigint NOT NULL,
    since         uuid NOT NULL,
    left_at       timestamptz,
    left_version  bigint,
    muted_until   timestamptz,
    last_read     uuid,
    last_delivered uuid,
    PRIMARY KEY (conversation_id, user_id)
) WITH (fillfactor = 80);

CREATE INDEX conversation_participants_user ON conversation_participants (user_id, conversation_id)
    WHERE left_version IS NULL;
-- Who is furthest behind: what decides whether everybody has a message. `greatest` passes over NULL.
CREATE INDEX conversation_participants_read
    ON conversation_participants (conversation_id, greatest(last_read, since)) WHERE left_version IS NULL;
CREATE INDEX conversation_participants_delivered
    ON conversation_participants (conversation_id, greatest(last_delivered, since)) WHERE left_version IS NULL;

-- Changes that Redis has not been told of for sure: written with the change, removed once its
-- system message is in the conversation's log. A worker tells what a gateway left.
CREATE TABLE conversation_changes (
    conversation_id uuid NOT NULL REFERENCES conversations,
    version       bigint NOT NULL,
    body          text NOT NULL,
    at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, version)
);

CREATE INDEX conversation_changes_age ON conversation_changes (at);

-- `content` is as it was sent, or encrypted with the key that `sealed` names; `files` and `change` are
-- the JSON of these parts of a message's body. Position: in the conversation's log. An edit replaces
-- the content, a deletion empties it and takes the files; `changed_…` tells of the one that counts: the
-- first deletion, else the last edit. Should an edit or a deletion be written before its message, the
-- row waits for it without a sender.
CREATE TABLE messages (
    id            uuid NOT NULL PRIMARY KEY,
    conversation_id uuid NOT NULL,
    sender_id     uuid,
    sender_name   text,
    sender_type   text CHECK (sender_type IN ('USER', 'SYSTEM', 'BOT')),
    message_type  text CHECK (message_type IN ('TEXT', 'FILE', 'IMAGE', 'SYSTEM')),
    content       text NOT NULL,
    sealed        text,
    files         text NOT NULL DEFAULT '[]',
    change        text,
    uncopied      boolean NOT NULL DEFAULT false,
    epoch         bigint,
    "offset"      bigint,
    created_at    timestamptz,
    changed_epoch bigint,
    changed_offset bigint,
    changed_by    uuid,
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

CREATE INDEX conversation_days_day ON conversation_days (day);

-- Messages are kept for years. A question to the whole table would lock the table and the indexes of
-- every day there is, however few of them it reads; so each day is asked by its own name.

-- The day that an id was minted on.
CREATE FUNCTION uuid_day(id uuid) RETURNS date
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0) AT TIME ZONE 'UTC')::date;

-- The table of a day's messages; NULL if there is none.
CREATE FUNCTION messages_of_day(this_day date) RETURNS regclass
LANGUAGE sql STABLE STRICT
RETURN to_regclass('messages_' || to_char(this_day, 'YYYYMMDD'));

-- One message.
CREATE FUNCTION message_of(this_id uuid) RETURNS SETOF messages
LANGUAGE plpgsql STABLE STRICT ROWS 1 AS $$
DECLARE
    this_table regclass := messages_of_day(uuid_day(this_id));
BEGIN
    IF this_table IS NOT NULL THEN
        RETURN QUERY EXECUTE format('SELECT * FROM %s WHERE id = $1 AND sender_id IS NOT NULL', this_table)
            USING this_id;
    END IF;
END
$$;

-- At most so many messages of a conversation between two ids, both left out, in the order of ids or
-- against it.
CREATE FUNCTION messages_between(this_one uuid, after uuid, before uuid, newest_first boolean, most bigint)
RETURNS SETOF messages
LANGUAGE plpgsql STABLE STRICT ROWS 100 AS $$
DECLARE
    wanted bigint := most;
    got bigint;
    direction text := CASE WHEN newest_first THEN 'DESC' ELSE 'ASC' END;
    last_day date := uuid_day(before);
    this_day date;
    this_table regclass;
BEGIN
    FOR this_day IN EXECUTE format(
        'SELECT day FROM conversation_days WHERE conversation_id = $1 AND day >= $2 AND day <= $3
         ORDER BY conversation_id %1$s, day %1$s', direction)
        USING this_one, uuid_day(after), last_day
    LOOP
        this_table := messages_of_day(this_day);
        CONTINUE WHEN this_table IS NULL;
        RETURN QUERY EXECUTE format(
            'SELECT * FROM %2$s WHERE conversation_id = $1 AND id > $2 AND id < $3 AND sender_id IS NOT NULL
             ORDER BY conversation_id %1$s, id %1$s LIMIT $4', direction, this_table)
            USING this_one, after, before, wanted;
        GET DIAGNOSTICS got = ROW_COUNT;
        wanted := wanted - got;
        EXIT WHEN wanted <= 0;
    END LOOP;
END
$$;

-- At most so many messages that stand in a stretch of a conversation's log, both ends left out, oldest
-- first, without those that were deleted.
CREATE FUNCTION messages_in_log(
    this_one uuid, after_epoch bigint, after_offset bigint, before_epoch bigint, before_offset bigint, most bigint)
RETURNS SETOF messages
LANGUAGE plpgsql STABLE STRICT ROWS 100 AS $$
DECLARE
    wanted bigint := most;
    got bigint;
    this_day date;
    this_table regclass;
BEGIN
    FOR this_day IN
        SELECT day FROM conversation_days WHERE conversation_id = this_one ORDER BY conversation_id, day
    LOOP
        this_table := messages_of_day(this_day);
        CONTINUE WHEN this_table IS NULL;
        RETURN QUERY EXECUTE format(
            'SELECT * FROM %s WHERE conversation_id = $1 AND (epoch, "offset") > ($2, $3)
                 AND (epoch, "offset") < ($4, $5) AND deleted_at IS NULL
             ORDER BY conversation_id, epoch, "offset" LIMIT $6', this_table)
            USING this_one, after_epoch, after_offset, before_epoch, before_offset, wanted;
        GET DIAGNOSTICS got = ROW_COUNT;
        wanted := wanted - got;
        EXIT WHEN wanted <= 0;
    END LOOP;
END
$$;

-- How many messages of others a participant has not read, counted up to `most`.
CREATE FUNCTION unread_messages(this_one uuid, reader uuid, after uuid, most bigint) RETURNS bigint
LANGUAGE plpgsql STABLE STRICT AS $$
DECLARE
    found bigint := 0;
    got bigint;
    this_day date;
    this_table regclass;
BEGIN
    FOR this_day IN
        SELECT day FROM conversation_days WHERE conversation_id = this_one AND day >= uuid_day(after)
        ORDER BY conversation_id DESC, day DESC
    LOOP
        this_table := messages_of_day(this_day);
        CONTINUE WHEN this_table IS NULL;
        EXECUTE format(
            'SELECT count(*) FROM (SELECT FROM %s WHERE conversation_id = $1 AND id > $2 AND sender_id <> $3
                 AND sender_type <> ''SYSTEM'' AND deleted_at IS NULL
                 ORDER BY conversation_id, id LIMIT $4) AS unread', this_table)
            INTO got USING this_one, after, reader, most - found;
        found := found + got;
        EXIT WHEN found >= most;
    END LOOP;
    RETURN found;
END
$$;

-- Copies of messages in users' logs: only which, the message itself is in `messages`. The id is that
-- of the entry, in the conversation's log and in the user's.
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
