#pragma once

#include <string>
#include <string_view>

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

namespace fuseline {

// Why the parser refused `bytes` as a message of this type: the field, and truncated, nested too deep, or not UTF-8. The
// parser itself only says no. Called for refused records alone; cost: one walk.
std::string WireFault(std::string_view bytes, const google::protobuf::Descriptor& type, int max_depth);

// The path of a known field that came with the wire type of another, which a parser keeps as unknown and so loses; empty
// when there is none. The check of a message without unknown fields is cheap.
std::string MistypedField(const google::protobuf::Message& message);

}  // namespace fuseline
