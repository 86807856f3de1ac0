-- What administrators manage: categories, groups and their members; and what they did.

-- The name is the tag that commands carry and never changes; people read the title. A retired one is
-- refused in new commands and stays here, since old ones still carry it.
CREATE TABLE categories (
    name          text COLLATE "C" PRIMARY KEY,
    title         text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    retired_at    timestamptz
);

CREATE TABLE groups (
    name          text COLLATE "C" PRIMARY KEY,
    may_allcast   boolean NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE user_groups (
    user_id       uuid NOT NULL REFERENCES users,
    group_name    text COLLATE "C" NOT NULL REFERENCES groups,
    assigned_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, group_name)
);

CREATE INDEX user_groups_members ON user_groups (group_name, user_id);

-- The list of users in the order of their names. Names are ASCII; bytewise, so that a prefix is a range.
CREATE INDEX users_by_name ON users ((lower(username) COLLATE "C"));
-- Whether there is another administrator.
CREATE INDEX users_admins ON users (id) WHERE role = 'admin';

-- What was done and what was refused. Nobody in `actor`: done at the command line. `outcome` is `done`
-- or the code of the refusal.
CREATE TABLE audit_log (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    actor         uuid,
    action        text NOT NULL,
    target        text NOT NULL,
    details       jsonb NOT NULL,
    outcome       text NOT NULL,
    request_id    text,
    address       text,
    at            timestamptz NOT NULL DEFAULT now()
);

-- Answers to requests that created something, for whoever asks again under the same key. A row older
-- than a day says nothing any more.
CREATE TABLE idempotency_keys (
    scope         text NOT NULL,
    key           text NOT NULL,
    digest        text NOT NULL,
    at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (scope, key)
);

CREATE INDEX idempotency_keys_age ON idempotency_keys (at);
