-- limit: takes tokens out of buckets that all nodes share, and puts unused ones back.
-- KEYS     meta of each partition touched
-- ARGV     six per step: tag, name, spacing in µs, burst, count, full
--          count > 0 takes up to so many tokens; count < 0 puts so many back, provided that the
--          bucket is as it was when they were taken: full again at `full`
-- A bucket is the instant, in µs, at which it is full again if nobody takes anything (GCRA). A full
-- one has no key.
-- Answers a text per step: `<taken> <full before> <full after> <µs until full> <µs until one more>`
local function now_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function limit_one(a, i, now)
  local bucket = key(a[i], 'limit', a[i + 1])
  local spacing, burst, count = tonumber(a[i + 2]), tonumber(a[i + 3]), tonumber(a[i + 4])
  local before = tonumber(redis.call('GET', bucket)) or 0
  if before <= now then before = 0 end -- full, and the key about to go
  -- No bucket is emptier than empty: one that is further ahead is from before the clock of Redis
  -- was set back, or from before the burst became smaller. It tells nothing, and nobody is to pay
  -- for a clock: it is full.
  local empty = now + burst * spacing
  local full = math.max(before, now)
  if full > empty then full = now end
  local taken = 0
  if count > 0 then
    taken = math.min(count, math.floor((empty - full) / spacing))
  elseif int(before) == a[i + 5] then
    -- Somebody who took since then counts on what is there: then nothing is put back.
    taken = count
  end
  full = math.max(full + taken * spacing, now)
  if taken ~= 0 or before > empty then
    if full > now then
      redis.call('SET', bucket, int(full), 'PX', int(math.ceil((full - now) / 1000)))
    else
      redis.call('DEL', bucket)
    end
  end
  local wait = math.max(full + spacing - empty, 0)
  return table.concat({int(taken), int(before), int(full), int(full - now), int(wait)}, ' ')
end

redis.register_function{
  function_name = 'tidegate_v1_limit',
  callback = function(_, a)
    local now, answers = now_us(), {}
    for i = 1, #a, 6 do answers[#answers + 1] = limit_one(a, i, now) end
    return answers
  end,
  flags = {'allow-oom'}, -- else nobody could log in, or end a command, when memory is full
}
