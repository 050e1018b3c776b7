#include "scripts.h"

#include <string>

namespace fuseline {
namespace {

// A number that nobody has counted to is lost, as one that is absent: 0. An epoch below ours is one from before a failover
// that lost our claim: nobody newer wrote it.
constexpr const char* kShared = R"lua(
local function counted(key)
  local stored = redis.call('GET', key)
  local number = stored and string.match(stored, '^%d+$') and tonumber(stored)
  return number and number <= 9007199254740992 and number or 0
end
local function check_epoch(key, mine)
  local stored = counted(key)
  if stored < tonumber(mine) then return redis.error_reply('ABSENT epoch ' .. mine .. ': unfenced') end
  if stored > tonumber(mine) then
    return redis.error_reply('REFUSED fenced: epoch ' .. mine .. ' was followed by ' .. string.format('%.0f', stored))
  end
end
local function check_change(key, seen)
  local stored = counted(key)
  if stored < tonumber(seen) then return redis.error_reply('ABSENT change ' .. seen .. ': behind') end
  if stored > tonumber(seen) then
    stored = string.format('%.0f', stored)
    return redis.error_reply('REFUSED moved: change ' .. seen .. ' was followed by ' .. stored)
  end
end
local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function move(first, kept)
  for i = first, #ARGV, 4 do
    redis.call('SET', KEYS[2], ARGV[i])
    redis.call('HSET', KEYS[3], ARGV[i + 1], ARGV[i + 2])
    redis.call('XADD', KEYS[4], 'MAXLEN', '~', kept, '*', 'change', ARGV[i + 2])
    if ARGV[i + 3] ~= '0' then redis.call('ZADD', KEYS[5], string.format('%.0f', now_ms()), ARGV[i + 3]) end
  end
end
)lua";

constexpr const char* kReadAliases = R"lua(
return {redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2]), redis.call('HGETALL', KEYS[3])}
)lua";

constexpr const char* kClaim = R"lua(
local stored = counted(KEYS[1])
if stored > tonumber(ARGV[1]) then
  return redis.error_reply('REFUSED fenced: epoch ' .. ARGV[1] .. ' was followed by ' .. string.format('%.0f', stored))
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
)lua";

constexpr const char* kForget = R"lua(
local no = check_epoch(KEYS[1], ARGV[1])
if no then return no end
local versions = #KEYS - 4
for i = 1, versions do
  redis.call('DEL', KEYS[4 + i])
  redis.call('ZREM', KEYS[4], ARGV[1 + i])
end
if counted(KEYS[2]) == 0 then redis.call('DEL', KEYS[2]) end
for i = versions + 2, #ARGV, 2 do
  if redis.call('HGET', KEYS[3], ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', KEYS[3], ARGV[i])
    redis.call('DEL', KEYS[2])
  end
end
return 1
)lua";

constexpr const char* kSpare = R"lua(
local no = check_epoch(KEYS[1], ARGV[1])
if no then return no end
redis.call('ZADD', KEYS[2], string.format('%.0f', now_ms()), ARGV[2])
return 1
)lua";

constexpr const char* kPutPart = R"lua(
local no = check_epoch(KEYS[1], ARGV[1])
if no then return no end
local manifest = redis.call('GET', KEYS[2])
if manifest and manifest ~= ARGV[2] then return redis.error_reply('REFUSED another digest under this version') end
redis.call('SET', KEYS[3], ARGV[3])
return 1
)lua";

constexpr const char* kPutDelta = R"lua(
local no = check_epoch(KEYS[1], ARGV[1])
if no then return no end
local manifest = redis.call('GET', KEYS[2])
if manifest and manifest ~= ARGV[2] then return redis.error_reply('REFUSED another digest under this version') end
redis.call('DEL', KEYS[3])
redis.call('HSET', KEYS[3], ARGV[3], ARGV[4])
return 1
)lua";

constexpr const char* kPublish = R"lua(
local no = check_epoch(KEYS[1], ARGV[1])
if no then return no end
local manifest = redis.call('GET', KEYS[7])
if manifest and manifest ~= ARGV[5] then return redis.error_reply('REFUSED another digest under this version') end
for i = 9, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then return redis.error_reply('ABSENT part: behind') end
end
local was_there = manifest and redis.call('ZSCORE', KEYS[6], ARGV[4])
no = not was_there and check_change(KEYS[2], ARGV[2])
if no then return no end
if ARGV[6] ~= '' then redis.call('SET', KEYS[8], ARGV[6]) end
if was_there then return 0 end
redis.call('SET', KEYS[7], ARGV[5])
redis.call('ZADD', KEYS[6], ARGV[4], ARGV[4])
move(7, ARGV[3])
return 1
)lua";

constexpr const char* kMove = R"lua(
local no = check_epoch(KEYS[1], ARGV[1]) or check_change(KEYS[2], ARGV[2])
if no then return no end
for i = 6, #KEYS do
  if redis.call('EXISTS', KEYS[i]) == 0 then return redis.error_reply('ABSENT ' .. KEYS[i]) end
end
move(4, ARGV[3])
return 1
)lua";

constexpr const char* kDelete = R"lua(
local no = check_epoch(KEYS[1], ARGV[1]) or check_change(KEYS[2], ARGV[2])
if no then return no end
local left = redis.call('ZSCORE', KEYS[4], ARGV[3])
if left and now_ms() - tonumber(left) < tonumber(ARGV[4]) then return 0 end
redis.call('ZREM', KEYS[3], ARGV[3])
redis.call('ZREM', KEYS[4], ARGV[3])
for i = 6, #KEYS do redis.call('DEL', KEYS[i]) end
if ARGV[6] ~= '' then redis.call('XADD', KEYS[5], 'MAXLEN', '~', ARGV[5], '*', 'note', ARGV[6]) end
return 1
)lua";

constexpr const char* kNote = R"lua(
local no = check_epoch(KEYS[1], ARGV[1])
if no then return no end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'note', ARGV[3])
redis.call('ZADD', KEYS[3], string.format('%.0f', now_ms()), ARGV[4])
return 1
)lua";

constexpr const char* kWriteExperiment = R"lua(
if ARGV[1] ~= '0' then
  local no = check_epoch(KEYS[1], ARGV[1])
  if no then return no end
end
local stored = redis.call('HGET', KEYS[2], ARGV[2]) or ''
if stored == ARGV[4] then return 0 end
if stored ~= ARGV[3] then return redis.error_reply('REFUSED experiment was changed by somebody else') end
if ARGV[7] ~= '' and #redis.call('HGETALL', KEYS[2]) ~= 2 * tonumber(ARGV[7]) then
  return redis.error_reply('REFUSED another experiment was begun by somebody else')
end
redis.call('HSET', KEYS[2], ARGV[2], ARGV[4])
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[5], '*', 'note', ARGV[6])
return 1
)lua";

}  // namespace

const RedisScript& ReadAliasesScript() {
  static const RedisScript script(kReadAliases);
  return script;
}

const RedisScript& ClaimScript() {
  static const RedisScript script(std::string(kShared) + kClaim);
  return script;
}

const RedisScript& ForgetScript() {
  static const RedisScript script(std::string(kShared) + kForget);
  return script;
}

const RedisScript& SpareScript() {
  static const RedisScript script(std::string(kShared) + kSpare);
  return script;
}

const RedisScript& PutPartScript() {
  static const RedisScript script(std::string(kShared) + kPutPart);
  return script;
}

const RedisScript& PutDeltaScript() {
  static const RedisScript script(std::string(kShared) + kPutDelta);
  return script;
}

const RedisScript& PublishScript() {
  static const RedisScript script(std::string(kShared) + kPublish);
  return script;
}

const RedisScript& MoveScript() {
  static const RedisScript script(std::string(kShared) + kMove);
  return script;
}

const RedisScript& DeleteScript() {
  static const RedisScript script(std::string(kShared) + kDelete);
  return script;
}

const RedisScript& NoteScript() {
  static const RedisScript script(std::string(kShared) + kNote);
  return script;
}

const RedisScript& WriteExperimentScript() {
  static const RedisScript script(std::string(kShared) + kWriteExperiment);
  return script;
}

}  // namespace fuseline
