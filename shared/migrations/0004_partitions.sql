-- Daily partitions of the busy tables.

-- The smallest UUID whose first 48 bits are this instant.
CREATE FUNCTION uuid_at(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN rpad(lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0'), 32, '0')::uuid;

-- Every daily partition there is. `detaching` is one whose DETACH … CONCURRENTLY was cut off.
CREATE VIEW daily_partitions AS
SELECT parent.relname::text AS parent,
       child.relname::text AS name,
       to_date(right(child.relname, 8), 'YYYYMMDD') AS day,
       link.inhdetachpending AS detaching
FROM pg_inherits link
JOIN pg_class parent ON parent.oid = link.inhparent
JOIN pg_class child ON child.oid = link.inhrelid
WHERE link.inhparent IN (
    'commands'::regclass, 'command_assignments'::regclass, 'user_events'::regclass
) AND child.relkind = 'r';

-- Makes a table's partition of a day unless it is there; returns how many it made. A partition is
-- made alone and then attached: that takes a lock writers do not notice, CREATE … PARTITION OF
-- stops them. One that stands alone was to be dropped, and has its place again.
CREATE FUNCTION make_partition(busy text, this_day date) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    this_name text := busy || '_' || to_char(this_day, 'YYYYMMDD');
BEGIN
    -- Processes may do this at once.
    PERFORM pg_advisory_xact_lock(hashtext('tidegate.make_partitions'));
    IF EXISTS (SELECT FROM daily_partitions WHERE parent = busy AND name = this_name) THEN
        RETURN 0;
    END IF;
    IF to_regclass(quote_ident(this_name)) IS NULL THEN
        -- Assignments are updated in place: room on the page keeps that cheap.
        EXECUTE format(
            'CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES INCLUDING STORAGE) WITH (fillfactor = %s)',
            this_name, busy, CASE busy WHEN 'command_assignments' THEN 80 ELSE 100 END);
    END IF;
    EXECUTE format(
        'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
        busy, this_name,
        uuid_at(this_day::timestamp AT TIME ZONE 'UTC'),
        uuid_at((this_day + 1)::timestamp AT TIME ZONE 'UTC'));
    RETURN 1;
END
$$;

-- Makes the partitions from the last one there is (or yesterday, whichever is earlier) up to
-- `ahead` days from today, and returns how many it made.
CREATE FUNCTION make_partitions(ahead integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
    made integer := 0;
    busy text;
    this_day date;
BEGIN
    FOREACH busy IN ARRAY ARRAY['commands', 'command_assignments', 'user_events'] LOOP
        SELECT least(today - 1, max(day) + 1) INTO this_day FROM daily_partitions WHERE parent = busy;
        WHILE this_day <= today + ahead LOOP
            made := made + make_partition(busy, this_day);
            this_day := this_day + 1;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

-- Makes the partitions of certain days, whenever they are; those more than a year from today are
-- returned instead: no entry is that old or that new.
CREATE FUNCTION make_days(days date[]) RETURNS date[]
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
                    make_partition('user_events', this_day);
        END IF;
    END LOOP;
    RETURN absurd;
END
$$;
