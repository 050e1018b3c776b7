#pragma once

#include <string>

#include "fuseline/core/status.h"

namespace fuseline {

// What `fuseline evaluate` says of a CSV file, as one JSON object. `file`: as CsvReader::Open.
// Errors of both: kNotFound for no such file; kInvalidInput naming the first line that is bad, or what the header lacks.

// Columns reward, behaviour_density, target_density and, for dr and sndr (else null), q_logged and v_target:
// {"n","ips","snips","clipped_ips","dr","sndr","ess","intervals":{"level","kind","ips",...}}; null: not known or not finite.
// Streamed, whatever the size. REQUIRES: clip > 0.
Result<std::string> OpeJson(const std::string& file, double clip);

// Columns user, label (0 or 1), score and, unless each row weighs 1, weight: {"auc","gauc","users_used"}; null: no two classes.
// Memory: 32 bytes a row, and each user's name once.
Result<std::string> GaucJson(const std::string& file);

}  // namespace fuseline
