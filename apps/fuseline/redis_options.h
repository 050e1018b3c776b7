#pragma once

#include "fuseline/redis/connection.h"
#include "fuseline/v1/config.pb.h"

namespace fuseline {

RedisOptions RedisOptionsOf(const v1::Redis& settings);

}  // namespace fuseline
