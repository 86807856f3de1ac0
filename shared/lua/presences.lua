-- presences: how users appear.
-- KEYS meta of each partition   ARGV two per user: tag, user
-- Answers five per user: version ('0' if nothing is known), status, devices, ms when last seen or '-', text.
redis.register_function{
  function_name = 'tidegate_v1_presences',
  callback = function(_, a)
    local answer = {}
    for i = 1, #a, 2 do
      local tag, user = a[i], a[i + 1]
      local at = redis.call('HMGET', presence_key(tag, user), 's', 'x', 'v', 't')
      local status = at[1] or 'offline'
      local is_there = status ~= 'offline'
      local n = #answer
      answer[n + 1], answer[n + 2] = at[3] or '0', status
      answer[n + 3] = is_there and int(redis.call('HLEN', key(tag, 'sess', user))) or '0'
      answer[n + 4], answer[n + 5] = at[4] or '-', is_there and at[2] or ''
    end
    return answer
  end,
  flags = {'no-writes'},
}
