-- heads: the last position of many topics.
-- KEYS meta of each partition touched   ARGV two per topic: tag, topic
-- Answers `<epoch>:<offset>` per topic, '0:0' for one without a log.
redis.register_function{
  function_name = 'tidegate_v1_heads',
  callback = function(_, a)
    local answers = {}
    for i = 1, #a, 2 do
      local head = redis.call('HMGET', key(a[i], 'head', a[i + 1]), 'e', 'n')
      answers[#answers + 1] = head[1] and (head[1] .. ':' .. head[2]) or '0:0'
    end
    return answers
  end,
  flags = {'no-writes'},
}
