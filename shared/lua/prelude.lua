-- What the server functions share. The pieces are put together into one library by
-- shared/src/redis/functions.rs; every name below is local to it.
--
-- A partition is named by its tag, `{pN}`. Its keys begin with the tag; the builders here and
-- those in shared/src/redis/keys.rs must agree (a test compares them). KEYS carry the `meta` key
-- of each partition a call touches: they route the call, the other keys have the same tag.
--
-- A position travels as `<epoch>:<offset>`; the same numbers joined by `-` are a stream id.

local EPOCH_JUMP = 1000000   -- offsets skipped at a new epoch: none is ever used twice
local PERSIST_JUMP = 60000   -- ms that ids of `persist` skip at a new epoch

local function key(tag, kind, name) return tag .. ':' .. kind .. ':' .. name end
local function persist_key(tag) return tag .. ':persist' end

-- Milliseconds by the clock of Redis, the only clock that counts.
local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function int(number) return string.format('%.0f', number) end

-- "12:34" or "12-34" -> 12, 34
local function pair(text)
  local a, b = string.match(text, '^(%d+)[:%-](%d+)$')
  return tonumber(a), tonumber(b)
end

local function is_before(a1, a2, b1, b2) return a1 < b1 or (a1 == b1 and a2 < b2) end

-- The value of a named field in a flat list of an entry's fields.
local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then return fields[i + 1] end
  end
end

-- The last id the persist stream has given out, as two numbers.
local function persist_last(tag)
  local stream = persist_key(tag)
  if redis.call('EXISTS', stream) == 0 then return 0, 0 end
  return pair(field(redis.call('XINFO', 'STREAM', stream), 'last-generated-id'))
end

-- Makes every later id of the persist stream greater than `ms-seq`.
local function raise_persist(tag, ms, seq)
  local stream, id = persist_key(tag), int(ms) .. '-' .. int(seq)
  if redis.call('EXISTS', stream) == 1 then
    redis.call('XSETID', stream, id)
  else
    redis.call('XADD', stream, id, 'x', '')
    redis.call('XDEL', stream, id)
  end
end

-- Who serves this partition: the server process and its reign. A process has its run id as long
-- as it lives, a reign its replication id: that changes whenever a replica takes over, so also
-- when a process that was replaced takes over again without having restarted. INFO costs more
-- than an append, so the reign is looked up at most every REIGN_MS; to lose a reign and win
-- another takes longer.
local REIGN_MS = 100
local run, reign, looked_at
local followed = false -- whether anybody has replicated from this process
local function look(now)
  if looked_at and now >= looked_at and now - looked_at < REIGN_MS then return end
  run = run or string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  local info = redis.call('INFO', 'replication')
  reign = string.match(info, 'master_replid:(%x+)')
  followed = followed or string.find(info, 'state=online', 1, true) ~= nil
  looked_at = now
end

local function server_id(now)
  look(now)
  return run .. ':' .. reign
end

-- Behind Sentinel, a primary that restarts after it was replaced takes itself for the primary
-- until it is told. Its epochs would be newer than those of its successor, and readers who
-- followed it would take what the successor writes for old. Nobody replicates from it, though:
-- so there, a process takes entries only once it has had a replica.
local function is_followed(now)
  look(now)
  return followed
end

-- The epoch of a partition, if it was given in this reign; for functions that write nothing.
local function present_epoch(tag, now)
  local known = redis.call('HMGET', tag .. ':meta', 'server', 'epoch')
  return known[1] == server_id(now) and tonumber(known[2])
end

-- The fence: the epoch of a partition. A server or a reign that has not written to the partition
-- yet (restart, failover, moved slot, restored backup) may lack its tail, so the epoch rises
-- and the ids of `persist` jump ahead: nothing new can hide behind an old position.
local function fence(tag, now)
  local meta = tag .. ':meta'
  local known = redis.call('HMGET', meta, 'server', 'epoch')
  local server = server_id(now)
  if known[1] == server then return tonumber(known[2]) end
  local epoch = math.max((tonumber(known[2]) or 0) + 1, math.floor(now / 1000))
  raise_persist(tag, math.max(now, (persist_last(tag))) + PERSIST_JUMP, 0)
  redis.call('HSET', meta, 'server', server, 'epoch', int(epoch))
  return epoch
end
