-- read: a page of a log after a position.
-- KEYS[1] meta   ARGV tag, topic, epoch, offset, most entries, most bytes of bodies
-- Answers one of
--   {'E', head epoch, head offset, then five per entry: <e>-<n>, id, kind, ms, body}
--   {'C', first epoch, first offset, head epoch, head offset}   older than what is here, or the end
--                                                               of an epoch: see below
--   {'R', head epoch, head offset}                              ahead of the log
local function first_or_cold(tag, e, n)
  -- A topic without a head: it never had an entry, or Redis lost everything. Only if a worker
  -- has vouched for the partition (`complete`) are the two told apart.
  local meta = redis.call('HMGET', tag .. ':meta', 'epoch', 'complete')
  local epoch = tonumber(meta[1]) or math.floor(now_ms() / 1000)
  local complete = meta[2] == '1'
  if e > epoch or (n > 0 and (complete or e == epoch)) then return {'R', '0', '0'} end
  -- With offset 0 the reader comes from a cold read: there is nothing older.
  if n == 0 and (complete or e > 0) then return {'E', int(e), int(n)} end
  return {'C', int(epoch), '1', int(epoch), '0'}
end

-- A page ends where an epoch ends, and going on from there is answered with `C`: when the epoch
-- began, Redis may have lost a tail that Postgres has.
local function read_page(tag, topic, e, n, most, bytes)
  local head = redis.call('HMGET', key(tag, 'head', topic), 'e', 'n', 'f', 'b')
  if not head[1] then return first_or_cold(tag, e, n) end
  local he, hn = tonumber(head[1]), tonumber(head[2])
  if is_before(he, hn, e, n) then return {'R', head[1], head[2]} end
  local fe, fn = pair(head[3])
  if is_before(e, n, fe, fn - 1)
    and not (head[4] and redis.call('HGET', tag .. ':meta', 'complete') == '1') then
    return {'C', head[3]:match('^%d+'), int(fn), head[1], head[2]}
  end
  local page, log, epoch = {'E', head[1], head[2]}, key(tag, 'log', topic), e
  local at, room = int(e) .. '-' .. int(n), bytes
  while most > 0 and room > 0 do
    local wanted = math.min(most, 64)
    local got = redis.call('XRANGE', log, '(' .. at, '+', 'COUNT', wanted)
    for _, entry in ipairs(got) do
      local body = field(entry[2], 'd') or ''
      if room < #body and #page > 3 then return page end
      room = room - #body
      local ee, en = pair(entry[1])
      if ee ~= epoch and epoch > 0 then
        if #page > 3 then return page end
        return {'C', int(ee), int(en), head[1], head[2]}
      end
      at, epoch = entry[1], ee
      page[#page + 1] = at
      page[#page + 1] = field(entry[2], 'id') or ''
      page[#page + 1] = field(entry[2], 'k') or ''
      page[#page + 1] = field(entry[2], 't') or ''
      page[#page + 1] = body
    end
    if #got < wanted then break end
    most = most - wanted
  end
  -- Nothing is left up to the head: the log was trimmed, or an epoch ends here (see above).
  local is_cold = redis.call('EXISTS', log) == 0 or (e > 0 and e ~= he)
  if #page == 3 and is_before(e, n, he, hn) and is_cold then
    return {'C', head[1], int(hn + 1), head[1], head[2]}
  end
  return page
end

redis.register_function{
  function_name = 'tidegate_v1_read',
  callback = function(_, a)
    return read_page(a[1], a[2], tonumber(a[3]), tonumber(a[4]), tonumber(a[5]), tonumber(a[6]))
  end,
  flags = {'no-writes'},
}
