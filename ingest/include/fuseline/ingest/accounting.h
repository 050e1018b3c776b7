#pragma once

#include <string>

#include "fuseline/v1/event.pb.h"

namespace fuseline {

// read = used + pending + duplicate + late + orphan + malformed + quarantined + control.
bool IsBalanced(const v1::Accounting& accounting);

void AddAccounting(const v1::Accounting& more, v1::Accounting* total);

// "read 10 = used 7 + pending 0 + …", with "!=" where the identity is broken.
std::string AccountingText(const v1::Accounting& accounting);

// {"read":10,"used":7,…,"control":0}
std::string AccountingJson(const v1::Accounting& accounting);

}  // namespace fuseline
