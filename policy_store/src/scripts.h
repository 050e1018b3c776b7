#pragma once

#include "fuseline/redis/connection.h"

namespace fuseline {

// Every write of the policy store is one of these scripts, so that its check and its effect are one step. All check before the
// first write: a script that answers REFUSED or ABSENT has changed nothing.

// KEYS epoch, change, aliases. Answers what they hold at one instant.
const RedisScript& ReadAliasesScript();

// KEYS epoch. ARGV epoch.
const RedisScript& ClaimScript();

// Takes out what nobody can read, so that it counts as lost. With an alias its change number goes: whoever knows it sees that they are behind.
// KEYS epoch, change, aliases, versions, manifest…. ARGV epoch, the version of each manifest, then pairs: alias, its bytes as they were seen.
const RedisScript& ForgetScript();

// Retention spares a version as if an alias had left it just now. KEYS epoch, left. ARGV epoch, version.
const RedisScript& SpareScript();

// KEYS epoch, manifest, part. ARGV epoch, manifest bytes, part bytes.
const RedisScript& PutPartScript();

// KEYS epoch, manifest, delta. ARGV epoch, manifest bytes, base version, delta bytes.
const RedisScript& PutDeltaScript();

// Makes a version complete and moves aliases.
// KEYS epoch, change, aliases, changes, left, versions, manifest, signature, part….
// ARGV epoch, change seen, changes kept, version, manifest bytes, signature or '', then moves as MoveScript's.
// Answers 1 if it did so, 0 if the version was complete before (then nothing is moved, but the signature is written).
const RedisScript& PublishScript();

// Moves aliases. KEYS epoch, change, aliases, changes, left, manifest…: all must be there.
// ARGV epoch, change seen, changes kept, then moves of four: number, alias, change bytes, version left.
const RedisScript& MoveScript();

// KEYS epoch, change, versions, left, changes, then all keys of the version.
// ARGV epoch, change seen, version, keep_pointed_ms, changes kept, bytes of the stream's note or ''.
// Answers 1 if it deleted the version, 0 if an alias left it too recently.
const RedisScript& DeleteScript();

// Tells the stream of a version that came otherwise than from a learner; retention then spares it as if an alias had left it just now.
// KEYS epoch, changes, left. ARGV epoch, changes kept, note bytes, version.
const RedisScript& NoteScript();

// Sets an experiment whose stored bytes are those that were seen. KEYS epoch, experiments, changes.
// ARGV epoch (0: not asked), name, bytes seen (empty: it was absent), bytes, changes kept, bytes of a note, how many were seen ('': not asked).
const RedisScript& WriteExperimentScript();

}  // namespace fuseline
