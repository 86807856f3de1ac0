-- persist_commit: Postgres has everything up to an id of the persist stream.
-- KEYS[1] meta   ARGV tag, id
-- Trims the stream, remembers the id (it only moves forward) and rings for it.
redis.register_function{
  function_name = 'tidegate_v1_persist_commit',
  callback = function(_, a)
    local tag, ms, seq = a[1], pair(a[2])
    if committed(redis.call('GET', tag .. ':stored'), ms, seq) then return 0 end
    redis.call('SET', tag .. ':stored', a[2])
    redis.call('XTRIM', persist_key(tag), 'MINID', '=', int(ms) .. '-' .. int(seq + 1))
    redis.call('SPUBLISH', tag .. ':stored', '1 stored ' .. a[2])
    return 1
  end,
  flags = {'allow-oom'},
}
