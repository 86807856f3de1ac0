-- find: an entry by its id, among the newest of a log.
-- KEYS[1] meta   ARGV tag, topic, id, how many entries to look at
-- Answers {<e>-<n>, id, kind, ms, body}, or an empty list.
redis.register_function{
  function_name = 'tidegate_v1_find',
  callback = function(_, a)
    local left, at = tonumber(a[4]), '+'
    while left > 0 do
      local got = redis.call('XREVRANGE', key(a[1], 'log', a[2]), at, '-', 'COUNT', math.min(left, 100))
      for _, entry in ipairs(got) do
        local f = entry[2]
        if field(f, 'id') == a[3] then
          return {entry[1], a[3], field(f, 'k') or '', field(f, 't') or '', field(f, 'd') or ''}
        end
        at = '(' .. entry[1]
      end
      if #got < 100 then break end
      left = left - #got
    end
    return {}
  end,
  flags = {'no-writes'},
}
