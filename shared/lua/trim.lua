-- trim: removes from the beginning of a log what is older than the window and in Postgres.
-- KEYS[1] meta   ARGV tag, topic, window in ms, most entries
-- Never above what workers have committed (`stored`), nor what is not copied yet. A log that is empty and old goes; its head
-- stays and says where the log would begin. Answers how many entries went.
local function committed(stored, ms, seq)
  if not stored then return false end
  local sms, sseq = pair(stored)
  return not is_before(sms, sseq, ms, seq)
end

redis.register_function{
  function_name = 'tidegate_v1_trim',
  callback = function(_, a)
    local tag, topic, most = a[1], a[2], tonumber(a[4])
    local log, head = key(tag, 'log', topic), key(tag, 'head', topic)
    local cutoff, stored = now_ms() - tonumber(a[3]), redis.call('GET', tag .. ':stored')
    local copied = redis.call('HGET', head, 'c') -- only while somebody copies, or should
    local ce, cn = cursor_of(copied)
    local last, removed
    removed = 0
    for _, entry in ipairs(redis.call('XRANGE', log, '-', '+', 'COUNT', most)) do
      local at, p = tonumber(field(entry[2], 't')), field(entry[2], 'p')
      if not at or not p or at > cutoff or not committed(stored, pair(p)) then break end
      if copied and is_before(ce, cn, pair(entry[1])) then break end
      last, removed = entry[1], removed + 1
    end
    if last then
      local e, n = pair(last)
      redis.call('HSET', head, 'f', int(e) .. ':' .. int(n + 1))
      redis.call('HDEL', head, 'b')
      redis.call('XTRIM', log, 'MINID', '=', int(e) .. '-' .. int(n + 1))
    end
    if redis.call('XLEN', log) == 0 then
      local h = redis.call('HMGET', head, 'e', 'n', 't')
      if h[1] and tonumber(h[3]) <= cutoff and committed(stored, persist_last(tag)) then
        redis.call('HSET', head, 'f', h[1] .. ':' .. int(tonumber(h[2]) + 1))
        redis.call('HDEL', head, 'b')
        redis.call('DEL', log)
      end
    end
    return removed
  end,
  flags = {'allow-oom'},
}
