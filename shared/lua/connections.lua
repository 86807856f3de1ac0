-- connections: the sessions of some partitions, a page at a time. sessions_at: how many there are.
-- The index by node decides who is listed, the session itself says the rest: one that is only in
-- the index is gone.

-- connections   KEYS[1] meta   ARGV tag, session to begin behind or '', most sessions, node, ...
-- Answers eight per session, in the order of their ids: session, user, node, incarnation, device, since,
-- name of its dialect (or '', of an earlier release), `active` or `idle`.
redis.register_function{
  function_name = 'tidegate_v1_connections',
  callback = function(_, a)
    local tag, after, most, found = a[1], a[2], tonumber(a[3]), {}
    for i = 4, #a do
      for _, member in ipairs(redis.call('SMEMBERS', key(tag, 'at', a[i]))) do
        local user, session = string.match(member, '^%d+ (%S+) (%S+)$')
        if user and session > after then found[#found + 1] = {id = session, user = user} end
      end
    end
    table.sort(found, function(x, y) return x.id < y.id end)
    local answer, last = {}, nil
    for _, it in ipairs(found) do
      if #answer >= most * 8 then break end
      local owner = it.id ~= last and redis.call('HGET', key(tag, 'sess', it.user), it.id)
      local node, incarnation, device, since, dialect, rest =
        string.match(owner or '', '^(%S+) (%d+) (%S+) (%d+) ?(%S*)(.*)$')
      if node then
        local use = string.match(rest, '%S*$')
        for _, value in ipairs({it.id, it.user, node, incarnation, device, since, dialect, use}) do
          answer[#answer + 1] = value
        end
        last = it.id
      end
    end
    return answer
  end,
  flags = {'no-writes'},
}

-- sessions_at   KEYS[1] meta   ARGV number of nodes, node, ..., tag, ...
-- Answers one number per node: its sessions in these partitions.
redis.register_function{
  function_name = 'tidegate_v1_sessions_at',
  callback = function(_, a)
    local nodes, counts = tonumber(a[1]), {}
    for i = 1, nodes do
      counts[i] = 0
      for j = nodes + 2, #a do
        counts[i] = counts[i] + redis.call('SCARD', key(a[j], 'at', a[i + 1]))
      end
    end
    return counts
  end,
  flags = {'no-writes'},
}
