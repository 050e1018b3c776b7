#include "fuseline/proto/world_file.h"

#include <google/protobuf/descriptor.h>

#include "fuseline/core/check.h"
#include "setting_field.h"
#include "settings_yaml.h"

namespace fuseline {
namespace {

// Every single field its default, section by section; lists have none.
void PutDefaults(google::protobuf::Message* message) {
  const auto* type = message->GetDescriptor();
  for (int i = 0; i < type->field_count(); ++i) {
    const auto* field = type->field(i);
    if (field->is_repeated()) continue;
    if (field->message_type() != nullptr) {
      PutDefaults(message->GetReflection()->MutableMessage(message, field));
      continue;
    }
    const std::string& value = field->options().GetExtension(v1::setting).default_();
    if (!value.empty()) FUSELINE_CHECK(PutSettingText(field, value, message).ok());
  }
}

}  // namespace

Result<v1::World> ReadWorldFile(const std::string& file, const std::string& text) {
  v1::World world;
  PutDefaults(&world);
  SettingOrigins origins;
  FUSELINE_FAIL_IF_ERROR(ReadYaml(file, text, nullptr, &world, &origins));
  if (world.kind().empty()) return Error(Code::kInvalidInput, file + ": a world has a key kind");
  return world;
}

}  // namespace fuseline
