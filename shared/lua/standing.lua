-- keep_version, standing: how a conversation stands.

-- keep_version   KEYS[1] meta   ARGV tag, conversation, version that Postgres has
-- Never to an older one: Redis may have heard of a change since Postgres was asked.
redis.register_function{
  function_name = 'tidegate_v1_keep_version',
  callback = function(_, a)
    local tag, topic, version = a[1], 'conversation:' .. a[2], tonumber(a[3])
    local epoch = fence(tag, now_ms())
    set_version(tag, topic, math.max(version_of(tag, topic, epoch) or 0, version), epoch)
    return 1
  end,
  flags = {'allow-oom'}, -- small, gone when it is not used, and signals go on when memory is full
}

-- The version or '', and where the last entry stands; '0:0' without a log.
local function standing(tag, topic)
  local epoch = present_epoch(tag, now_ms())
  local version, is_of_epoch
  if epoch then version, is_of_epoch = version_of(tag, topic, epoch) end
  local head = redis.call('HMGET', key(tag, 'head', topic), 'e', 'n')
  return {is_of_epoch and int(version) or '', head[1] and (head[1] .. ':' .. head[2]) or '0:0'}
end

-- standing   KEYS[1] meta   ARGV tag, conversation
-- Answers {version or '', `<epoch>:<offset>` of the last entry, '0:0' without a log}.
redis.register_function{
  function_name = 'tidegate_v1_standing',
  callback = function(_, a) return standing(a[1], 'conversation:' .. a[2]) end,
  flags = {'no-writes'},
}
