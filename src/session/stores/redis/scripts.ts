import { hash } from 'node:crypto';
import type { RedisScript } from '../../../drivers/redis.ts';

function script(source: string): RedisScript {
  return { source, sha1: hash('sha1', source) };
}

/**
 * How long a record outlives its expiry, in milliseconds: Redis drops it only when no sweeper has come by for so long.
 * Counted from the last write where that is later, so that the server's clock never takes what a sweeper has not seen.
 */
export const GRACE_MS = 3_600_000;

// A server whose memory is full refuses commands that may need more of it, and a script that begins with one. A script
// that has written something already is not interrupted, and commands that need no memory may always write. So what has
// to go on when the memory is full begins with such a command (Redis 7 has a flag for it, `allow-oom`, which others who
// speak its language do not know).

/** Nothing has an empty member: it removes nothing, and is a write. */
const NEEDS_NO_MEMORY = (key: string) => `redis.call('ZREM', ${key}, '')`;

// Fields of a record: `version`, `accessedAt`, `owned` (the stamp of its entry in the index of its owner), `h:<name>`
// each header field as JSON text, `a:<name>` each attribute's bytes and `va:<name>` its version. Numbers are read from
// JSON text with tonumber and written with %.17g, which keeps all digits.

const EXPIRY_OF = `
local function expiry_of(key)
  local fields = redis.call('HMGET', key, 'accessedAt', 'h:idleTimeoutMs', 'h:absoluteExpiresAt')
  local idle, absolute = tonumber(fields[2] or ''), tonumber(fields[3] or '')
  local at = math.huge
  if idle then at = tonumber(fields[1]) + idle end
  if absolute and absolute < at then at = absolute end
  return at
end
`;

const NOW = `
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
`;

const SCHEDULE = `
${EXPIRY_OF}
${NOW}
local function schedule(key, index, member)
  local at = expiry_of(key)
  if at == math.huge then
    redis.call('ZADD', index, '+inf', member)
    redis.call('PERSIST', key)
  else
    redis.call('ZADD', index, string.format('%.17g', at), member)
    redis.call('PEXPIREAT', key, string.format('%.0f', math.min(math.max(at, now()) + ${GRACE_MS}, 9e15)))
  end
end
`;

/**
 * KEYS record, index. ARGV member, base, then field and value in turns. Returns {1}, or {0} when it exists.
 *
 * Entries of the index whose record Redis has dropped go here too, at most two at a time: where nobody sweeps they
 * would pile up.
 */
export const CREATE = script(`
${SCHEDULE}
local key, index, member, base = KEYS[1], KEYS[2], ARGV[1], ARGV[2]
if redis.call('EXISTS', key) == 1 then return {0} end
for first = 3, #ARGV, 1000 do
  redis.call('HSET', key, unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
schedule(key, index, member)
local before = string.format('(%.0f', now() - ${GRACE_MS})
for _, old in ipairs(redis.call('ZRANGE', index, '-inf', before, 'BYSCORE', 'LIMIT', 0, 2)) do
  if redis.call('EXISTS', base .. old) == 0 then redis.call('ZREM', index, old) end
end
return {1}
`);

/**
 * KEYS record, index. ARGV member, channel, secret hash that is expected as JSON or '', stamp of the new owner's entry
 * or '' (no owner) or '-' (the owner does not change), the version that the caller has written last or '', a leap (see
 * `nextVersion`), then four lists, each with its length before it: expected (attribute, version), header (field, JSON
 * or ''), deleted (attribute), set (attribute, bytes).
 *
 * Returns {0, 'gone'}, {0, 'conflict'} or {1, version, version before, JSON of the owner before or '', stamp of his
 * entry or ''}; versions as text, because clients read large integers inexactly.
 */
const commit = (whenFull: string) =>
  script(`
${SCHEDULE}
local key, index, member, channel, secret, stamp = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if redis.call('EXISTS', key) == 0 then return {0, 'gone'} end
if secret ~= '' and redis.call('HGET', key, 'h:secretHash') ~= secret then return {0, 'conflict'} end
local cursor = 7
local function list(width)
  local first = cursor + 1
  cursor = first + ARGV[cursor] * width
  return first, cursor - 1
end
local first, last = list(2)
for i = first, last, 2 do
  if tonumber(redis.call('HGET', key, 'v' .. ARGV[i]) or 0) ~= tonumber(ARGV[i + 1]) then return {0, 'conflict'} end
end
${whenFull}
local owner, owned = '', ''
if stamp ~= '-' then
  local former = redis.call('HMGET', key, 'h:owner', 'owned')
  owner, owned = former[1] or '', former[2] or ''
  if stamp == '' then redis.call('HDEL', key, 'owned') else redis.call('HSET', key, 'owned', stamp) end
end
local previous = redis.call('HGET', key, 'version') or '0'
local version = previous + 1
if version - 1 ~= tonumber(ARGV[5]) or version % 256 == 0 then
  local lineage = math.floor(previous / 256) + ARGV[6]
  if lineage >= 2 ^ 45 then lineage = tonumber(ARGV[6]) end
  version = lineage * 256
end
version = string.format('%.0f', version)
redis.call('HSET', key, 'version', version)
first, last = list(2)
for i = first, last, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', key, ARGV[i]) else redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
end
if last >= first then schedule(key, index, member) end
first, last = list(1)
for i = first, last do redis.call('HDEL', key, ARGV[i], 'v' .. ARGV[i]) end
first, last = list(2)
for i = first, last, 2 do
  redis.call('HSET', key, ARGV[i], ARGV[i + 1], 'v' .. ARGV[i], version)
end
redis.call('PUBLISH', channel, member)
return {1, version, previous, owner, owned}
`);
export const COMMIT = commit('');
/**
 * The same for a server whose memory is full: what makes the attributes larger is refused with {0, 'full'}. The fields
 * of the header are small, and of a few kinds.
 */
export const COMMIT_WHEN_FULL = commit(`
local begin, growth = cursor, 0
list(2)
first, last = list(1)
for i = first, last do
  local bytes = redis.call('HSTRLEN', key, ARGV[i])
  if bytes > 0 then growth = growth - bytes - 2 * #ARGV[i] end
end
first, last = list(2)
for i = first, last, 2 do
  growth = growth + #ARGV[i + 1] - redis.call('HSTRLEN', key, ARGV[i])
  if redis.call('HEXISTS', key, ARGV[i]) == 0 then growth = growth + 2 * #ARGV[i] end
end
if growth > 0 then return {0, 'full'} end
cursor = begin
${NEEDS_NO_MEMORY('index')}
`);

/**
 * KEYS record. ARGV fields whose values are to be left out. Returns two lists of field and value in turns: those of the
 * record, and of those that are left out how long they are. Both empty: there is no record.
 */
export const READ_WITHOUT = script(`
local left_out = {}
for _, field in ipairs(ARGV) do left_out[field] = true end
local fields, record, sizes = {}, {}, {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if left_out[field] then
    sizes[#sizes + 1] = field
    sizes[#sizes + 1] = tostring(redis.call('HSTRLEN', KEYS[1], field))
  else
    fields[#fields + 1] = field
  end
end
for first = 1, #fields, 1000 do
  local values = redis.call('HMGET', KEYS[1], unpack(fields, first, math.min(first + 999, #fields)))
  for i, value in ipairs(values) do
    record[#record + 1] = fields[first + i - 1]
    record[#record + 1] = value
  end
end
return {record, sizes}
`);

/**
 * KEYS record, index. ARGV member, last access. Also when the memory is full: it writes in place, and without last
 * accesses sessions in use would look idle.
 */
export const TOUCH = script(`
${SCHEDULE}
local accessed = redis.call('HGET', KEYS[1], 'accessedAt')
if not accessed or tonumber(accessed) >= tonumber(ARGV[2]) then return {0} end
${NEEDS_NO_MEMORY('KEYS[2]')}
redis.call('HSET', KEYS[1], 'accessedAt', ARGV[2])
schedule(KEYS[1], KEYS[2], ARGV[1])
return {1}
`);

/**
 * KEYS record, index. ARGV member, channel, time by which it must have expired or ''. Returns {0}, or {1, JSON of its
 * owner or '', stamp of his entry or ''}.
 */
export const DELETE = script(`
${EXPIRY_OF}
local key = KEYS[1]
if redis.call('EXISTS', key) == 0 then
  redis.call('ZREM', KEYS[2], ARGV[1])
  return {0}
end
if ARGV[3] ~= '' and expiry_of(key) > tonumber(ARGV[3]) then return {0} end
local owner = redis.call('HMGET', key, 'h:owner', 'owned')
redis.call('UNLINK', key)
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[1])
return {1, owner[1] or '', owner[2] or ''}
`);

/**
 * KEYS index. ARGV base, now, limit. The members that have expired by now and their times in turns, the earliest first.
 * Drops entries whose record is gone: their keys, though not named, are in the slot of the index.
 */
export const EXPIRED = script(`
local found, limit, kept = {}, tonumber(ARGV[3]), 0
while kept < limit do
  local page = redis.call('ZRANGE', KEYS[1], '-inf', ARGV[2], 'BYSCORE', 'LIMIT', kept, limit - kept, 'WITHSCORES')
  if #page == 0 then break end
  for i = 1, #page, 2 do
    if redis.call('EXISTS', ARGV[1] .. page[i]) == 1 then
      found[#found + 1] = page[i]
      found[#found + 1] = page[i + 1]
      kept = kept + 1
    else
      redis.call('ZREM', KEYS[1], page[i])
    end
  end
end
return found
`);

/**
 * KEYS index. ARGV base, first and last place in the index. How many of the sessions there have no owner, and how many
 * there are.
 */
export const ANONYMOUS = script(`
local page = redis.call('ZRANGE', KEYS[1], ARGV[2], ARGV[3])
local anonymous = 0
for _, member in ipairs(page) do
  local key = ARGV[1] .. member
  if redis.call('EXISTS', key) == 1 and redis.call('HEXISTS', key, 'h:owner') == 0 then anonymous = anonymous + 1 end
end
return {anonymous, #page}
`);

/**
 * KEYS index of an owner. ARGV a fraction, member. Enters it under the time of this server, whatever the clocks of its
 * clients say. Returns the stamp, and up to two entries too old to be of a commit on its way, with their stamps.
 */
const own = (whenFull: string) =>
  script(`
${NOW}
${whenFull}
local at = now()
local stamp = string.format('%.17g', at + ARGV[1])
redis.call('ZADD', KEYS[1], stamp, ARGV[2])
local old = redis.call('ZRANGE', KEYS[1], '-inf', at - ${GRACE_MS}, 'BYSCORE', 'LIMIT', 0, 2, 'WITHSCORES')
return {stamp, unpack(old)}
`);
export const OWN = own('');
/** For the owner of a session that exists already. */
export const OWN_WHEN_FULL = own(NEEDS_NO_MEMORY('KEYS[1]'));

/**
 * KEYS index of an owner. The time before which entries are too old to be of a commit on its way, and all entries with
 * their stamps.
 */
export const OWNED = script(`
${NOW}
local found = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
table.insert(found, 1, string.format('%.0f', now() - ${GRACE_MS}))
return found
`);

/** KEYS index of an owner. ARGV member, stamp. Removes the entry if nobody has written it anew since. */
export const DISOWN = script(`
local stamp = redis.call('ZSCORE', KEYS[1], ARGV[1])
if stamp and tonumber(stamp) == tonumber(ARGV[2]) then redis.call('ZREM', KEYS[1], ARGV[1]) end
return 1
`);
