-- copied, take_over: copies for inboxes are made by one copier at a time, in the order of the log.
-- copied      KEYS[1] meta   ARGV tag, conversation, copier, position up to which all is copied,
--                                 most entries, most bytes
-- take_over   KEYS[1] meta   ARGV tag, conversation, copier, most entries, most bytes
-- Both answer nothing if somebody else copies, else what is next, six per entry: version, <e>-<n>,
-- id, kind, ms, body. If nothing is, nobody copies any more. With 0 entries the copier only goes on.

-- The entries to be copied behind a position.
local function uncopied_after(log, e, n, most, bytes)
  local page, at = {}, int(e) .. '-' .. int(n)
  while true do
    local got = redis.call('XRANGE', log, '(' .. at, '+', 'COUNT', 64)
    for _, entry in ipairs(got) do
      local f = entry[2]
      local version = field(f, 'v')
      if version then
        if most <= 0 or bytes <= 0 then return page end
        for _, value in ipairs({version, entry[1], field(f, 'id'), field(f, 'k'), field(f, 't'), field(f, 'd')}) do
          page[#page + 1] = value
        end
        most, bytes = most - 1, bytes - #page[#page]
      end
      at = entry[1]
    end
    if #got < 64 then return page end
  end
end

local function hand_out(tag, conversation, copier, e, n, most, bytes, now)
  local topic, fanout = 'conversation:' .. conversation, tag .. ':fanout'
  local head = key(tag, 'head', topic)
  local page = {}
  if most > 0 then
    page = uncopied_after(key(tag, 'log', topic), e, n, most, bytes)
    if #page == 0 then
      redis.call('HDEL', head, 'w', 'c')
      redis.call('ZREM', fanout, conversation)
      return page
    end
    redis.call('ZADD', fanout, page[5], conversation)
  end
  redis.call('HSET', head, 'w', copier .. ' ' .. int(now + COPIER_LEASE), 'c', int(e) .. ':' .. int(n))
  return page
end

redis.register_function{
  function_name = 'tidegate_v1_copied',
  callback = function(_, a)
    local tag, conversation, copier = a[1], a[2], a[3]
    local known = redis.call('HMGET', key(tag, 'head', 'conversation:' .. conversation), 'w', 'c')
    if not known[1] or string.match(known[1], '^%S+') ~= copier then return false end
    local ce, cn = pair(known[2])
    local e, n = pair(a[4])
    if is_before(e, n, ce, cn) then e, n = ce, cn end
    return hand_out(tag, conversation, copier, e, n, tonumber(a[5]), tonumber(a[6]), now_ms())
  end,
  flags = {'allow-oom'}, -- what is copied can be trimmed
}

redis.register_function{
  function_name = 'tidegate_v1_take_over',
  callback = function(_, a)
    local tag, conversation, copier, now = a[1], a[2], a[3], now_ms()
    local known = redis.call('HMGET', key(tag, 'head', 'conversation:' .. conversation), 'w', 'c')
    if not known[1] then
      redis.call('ZREM', tag .. ':fanout', conversation)
      return {}
    end
    if is_copying(known[1], now) then return false end
    local e, n = pair(known[2])
    return hand_out(tag, conversation, copier, e, n, tonumber(a[4]), tonumber(a[5]), now)
  end,
  flags = {'allow-oom'}, -- as copied
}
