#pragma once

#include "fuseline/redis/connection.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

// The settings of section `redis` as the connection takes them.
RedisOptions RedisOptionsOf(const v1::Redis& settings);

}  // namespace fuseline
