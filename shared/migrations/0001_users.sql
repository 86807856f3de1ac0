-- People and the tokens that were withdrawn from them.

CREATE TABLE users (
    id            uuid PRIMARY KEY,
    username      text NOT NULL,
    password_hash text NOT NULL,
    role          text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'moderator', 'admin')),
    status        text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'banned')),
    display_name  text,
    bio           text,
    avatar        text,
    last_seen_at  timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now()
);

-- A name is taken whatever its case; it is shown as it was typed.
CREATE UNIQUE INDEX users_username ON users (lower(username));

-- Every node asks who is banned, every few seconds.
CREATE INDEX users_banned ON users (id) WHERE status = 'banned';

-- What nodes read when the log of revocations no longer reaches back far enough. A row may go
-- once it has expired: no token it names lives longer.
CREATE TABLE revocations (
    id            uuid PRIMARY KEY,
    user_id       uuid NOT NULL,
    token_id      text,
    issued_until  bigint NOT NULL,
    expires_at    timestamptz NOT NULL
);

CREATE INDEX revocations_expiry ON revocations (expires_at);
