// The door for bytes from outside: what is refused, with which field named, and that what passes comes back unchanged.

#include "fuseline/proto/event_codec.h"

#include <cmath>
#include <functional>

#include <google/protobuf/unknown_field_set.h>
#include <gtest/gtest.h>

#include "fuseline/proto/event_view.h"
#include "fuseline/proto/settings.h"
#include "fuseline/test_support/matchers.h"

namespace fuseline {
namespace {

using testing::HasSubstr;

v1::Event Click() {
  v1::Event event;
  event.set_event_id("e1");
  event.set_user_id("u42");
  event.set_event_time_ms(1'650'812'741'436);
  event.mutable_feedback()->set_request_id("r1");
  event.mutable_feedback()->set_item_id("i7");
  event.mutable_feedback()->set_kind(v1::Feedback::CLICK);
  return event;
}

v1::Event Shown() {
  v1::Event event = Click();
  auto& exposure = *event.mutable_exposure();
  exposure.set_request_id("r1");
  exposure.set_schema_digest(std::string(32, '\x9a'));
  exposure.mutable_user_features()->add_dense(0.25F);
  exposure.mutable_user_features()->add_ids(~std::uint64_t{0});
  exposure.mutable_box()->set_lower(-0.15F);
  exposure.mutable_box()->set_upper(0.15F);
  exposure.set_log_density(-2.5);
  for (const auto* id : {"i7", "i8"}) {
    auto& item = *exposure.add_items();
    item.set_item_id(id);
    item.set_position(static_cast<std::uint32_t>(exposure.items_size()));
    item.add_task_scores(0.5F);
    for (const float value : {-1.0F, 0.5F}) {
      item.add_baseline_action(value);
      item.add_executed_action(value + 0.1F);
    }
  }
  return event;
}

std::string Refusal(std::string_view bytes, const EventLimits& limits = {}) {
  v1::Event event;
  const auto status = DecodeEvent(bytes, limits, &event);
  ByteArena arena;
  EventView view;
  EXPECT_EQ(ViewEvent(bytes, limits, arena, &view).message, status.message) << "the walk and the parser are one door";
  if (status.ok()) return "accepted";
  EXPECT_EQ(status.code, Code::kInvalidInput);
  return status.message;
}

std::string RefusalOf(const std::function<void(v1::Event&)>& change, const EventLimits& limits = {}) {
  v1::Event event = Shown();
  change(event);
  const auto by_protobuf = Refusal(event.SerializeAsString(), limits);
  EXPECT_EQ(ValidateEvent(event, limits).message + (by_protobuf == "accepted" ? "accepted" : ""), by_protobuf);
  return by_protobuf;
}

TEST(EventCodecTest, TheLinesThatPeopleWriteByHandAreRead) {
  v1::Event event;
  ASSERT_THAT(DecodeEvent(R"({"event_id":"e1","user_id":"u42","event_time_ms":0,)"
                          R"("feedback":{"request_id":"r1","item_id":"i7","kind":"CLICK"}})", {}, &event), IsOk());
  EXPECT_EQ(event.feedback().kind(), v1::Feedback::CLICK);
  EXPECT_EQ(event.event_time_ms(), 0);

  ASSERT_THAT(DecodeEvent(R"({"event_id":"e1","user_id":"u42","event_time_ms":"1650812741436",)"
                          R"("exposure":{"request_id":"r1","items":[{"item_id":"i7"}]}} )" "\r\n", {}, &event), IsOk());
  EXPECT_EQ(event.event_time_ms(), 1'650'812'741'436);
  EXPECT_EQ(event.exposure().items(0).item_id(), "i7") << "nobody logged an action: it still counts";
}

TEST(EventCodecTest, MalformedJsonIsRefusedByName) {
  const auto with = [](const std::string& member) {
    return Refusal(R"({"event_id":"e1","user_id":"u1","event_time_ms":1,)" + member + '}');
  };
  EXPECT_EQ(Refusal(R"({"event_id":"e1","user_id":"u)"), "user_id ends too early: truncated JSON");
  EXPECT_EQ(Refusal("{\"event_id\":\"\xff\"}"), "event_id is not UTF-8, found at or before byte 14");
  EXPECT_EQ(Refusal(R"({"event_id":7})"), "event_id has the wrong type; expected a string");
  EXPECT_EQ(Refusal(R"({"event_id":null})"), "event_id is null");
  EXPECT_EQ(Refusal(R"({"event_time_ms":1.0})"), "event_time_ms has the wrong type; expected an integer");
  EXPECT_EQ(Refusal(R"({"event_time_ms":"1 "})"), "event_time_ms is no integer in range: 1 ");
  EXPECT_EQ(Refusal(R"({"event_time_ms":9223372036854775808})"), "event_time_ms is out of range: 9223372036854775808");
  EXPECT_EQ(Refusal(R"({"event_time_ms":-1,"event_id":"e","user_id":"u"})"), "event_time_ms is negative: -1");
  EXPECT_EQ(Refusal(R"({"event_idd":"e1"})"), "Event has an unknown key: event_idd");
  EXPECT_EQ(Refusal(R"({"eventId":"e1"})"), "Event has an unknown key: eventId") << "one spelling, the schema's";
  EXPECT_EQ(Refusal(R"({"event_id":"a","event_id":"b"})"), "Event has the same key twice: event_id");
  EXPECT_EQ(Refusal(R"({"feedback":{},"exposure":{}})"), "Event has two keys of which only one may stand: feedback exposure");
  EXPECT_EQ(Refusal("{}x"), "Event is not valid JSON at byte 3");
  EXPECT_EQ(Refusal(std::string("{}\0x", 4)), "Event has a NUL byte at 2");
  EXPECT_EQ(with(R"("feedback":{"request_id":"r","item_id":"i","kind":"CLIK"})"), "feedback.kind has an unknown enumerator: CLIK");
  EXPECT_EQ(with(R"("feedback":{"request_id":"r","item_id":"i","kind":1})"), "feedback.kind has the wrong type; expected the name of an enumerator");
  EXPECT_EQ(with(R"("feedback":[])"), "feedback has the wrong type; expected an object");
  EXPECT_EQ(with(R"("exposure":{"items":{}})"), "exposure.items has the wrong type; expected an array");
  EXPECT_EQ(with(R"("exposure":{"schema_digest":"ab"})"), "exposure.schema_digest is not base64 with padding");
  EXPECT_EQ(with(R"("exposure":{"items":[{},{"task_scores":[1,NaN]}]})"), "exposure.items[1].task_scores[1] is not valid JSON at byte 93");
  EXPECT_EQ(with(R"("exposure":{"items":[{},{"task_scores":[1,1e39]}]})"), "exposure.items[1].task_scores[1] is out of range: 1e39");
  EXPECT_EQ(with(R"("exposure":{"log_density":1e999})"), "exposure.log_density is out of range");
  EXPECT_EQ(with(R"("exposure":{"items":[{"position":4294967296}]})"), "exposure.items[0].position is out of range: 4294967296");
  EXPECT_EQ(with(R"("exposure":)" + std::string(100'000, '[')), "exposure has the wrong type; expected an object");
}

TEST(EventCodecTest, MalformedProtobufIsRefusedByName) {
  const auto good = Shown().SerializeAsString();
  EXPECT_EQ(Refusal(""), "Event is empty: 0 bytes");
  EXPECT_EQ(Refusal("not json"), "no JSON object, and no protobuf; it begins with n");
  EXPECT_EQ(Refusal("\xff"), "Event holds bytes that are no field at byte 1");
  EXPECT_EQ(Refusal(good + '\0'), "Event holds bytes that are no field at byte " + std::to_string(good.size() + 1));
  EXPECT_EQ(Refusal("\x0a\x05" "ab"), "event_id is truncated");
  EXPECT_EQ(Refusal("\x0a\x02\xc0\x80"), "event_id is not UTF-8");
  EXPECT_EQ(Refusal("\x08\x01"), "event_id has the wrong wire type");
  EXPECT_EQ(Refusal(std::string("\x32\x04\x0a\x02\xff\xff", 6)), "control.tick holds bytes that are no field at byte 2");
  EXPECT_NE(Refusal("this is text"), "accepted");
  EXPECT_EQ(Refusal(good, {.event_bytes = 20}), "Event is larger than max_event_bytes: " + std::to_string(good.size()) + " > 20");
}

TEST(EventCodecTest, ConfluentFramingIsTakenOffAndAnotherMessageRefused) {
  const auto framed = [](std::string_view indexes) {
    return std::string("\0\0\0\0\x2a", 5).append(indexes).append(Shown().SerializeAsString());
  };
  for (const std::string_view own : {std::string_view("\0", 1), std::string_view("\2\0", 2)}) {
    v1::Event event;
    ASSERT_THAT(DecodeEvent(framed(own), {}, &event), IsOk());
    EXPECT_EQ(event.SerializeAsString(), Shown().SerializeAsString());
  }
  const std::string other = "Confluent framing names another message of its schema than Event, which is 0: ";
  EXPECT_EQ(Refusal(framed("\2\4")), other + "2");
  EXPECT_EQ(Refusal(framed(std::string_view("\4\0\2", 3))), other + "0.1") << "a message inside Event";
  EXPECT_EQ(Refusal(framed("\1")), "Confluent framing has an impossible count of message indexes: -1");
  EXPECT_EQ(Refusal(std::string("\0\0\0\1", 4)), "Confluent framing is truncated in its schema id");
  EXPECT_EQ(Refusal(std::string("\0\0\0\0\1", 5)), "Confluent framing is truncated in its message indexes");
  EXPECT_EQ(Refusal(std::string("\0\0\0\0\1\4\0", 7)), "Confluent framing is truncated in its message indexes");
  EXPECT_EQ(Refusal(std::string("\0\0\0\0\1\0", 6)), "Event is empty: 0 bytes");
  EXPECT_EQ(Refusal(std::string(6, '\0') + "\x08\x01"), "event_id has the wrong wire type") << "named as without framing";
}

TEST(EventCodecTest, EveryPrefixOfAnEventIsRefusedOrWhole) {
  for (const auto& whole : {Shown().SerializeAsString(), EncodeEventJson(Shown())}) {
    for (std::size_t size = 0; size < whole.size(); ++size) {
      v1::Event event;
      const auto status = DecodeEvent(std::string_view(whole).substr(0, size), {}, &event);
      // Protobuf cut between two fields is protobuf; then it lacks what comes last, the payload.
      EXPECT_THAT(status, HasCode(Code::kInvalidInput)) << size << " of " << whole.size();
      EXPECT_FALSE(status.message.empty());
    }
  }
}

TEST(EventCodecTest, DeepNestingIsRefusedWithoutRecursion) {
  // Groups are the only way to nest in fields that nobody knows: number 99, opened many times.
  std::string groups;
  for (int i = 0; i < 100'000; ++i) groups += "\x9b\x06";
  EXPECT_NE(Refusal(Click().SerializeAsString() + groups), "accepted");
}

TEST(EventCodecTest, EachPromiseOfTheSchemaIsChecked) {
  using E = v1::Event;
  const auto item = [](E& e) { return e.mutable_exposure()->mutable_items(1); };
  EXPECT_EQ(RefusalOf([](E&) {}), "accepted");
  EXPECT_EQ(RefusalOf([](E& e) { e.clear_event_id(); }), "event_id is empty");
  EXPECT_EQ(RefusalOf([](E& e) { e.clear_user_id(); }), "user_id is empty");
  EXPECT_EQ(RefusalOf([](E& e) { e.clear_payload(); }), "payload is absent: none of exposure, feedback, control");
  EXPECT_EQ(RefusalOf([](E& e) { e.set_event_time_ms(-1); }), "event_time_ms is negative: -1");
  EXPECT_THAT(RefusalOf([](E& e) { e.set_event_time_ms(1'650'812'741'436'000); }), HasSubstr("event_time_ms is after the year 9999"));
  EXPECT_EQ(RefusalOf([](E& e) { e.set_user_id(std::string(1025, 'u')); }), "user_id is longer than max_string_bytes: 1025 > 1024");
  EXPECT_EQ(RefusalOf([](E& e) { e.mutable_exposure()->clear_request_id(); }), "exposure.request_id is empty");
  EXPECT_EQ(RefusalOf([](E& e) { e.mutable_exposure()->set_schema_digest("x"); }), "exposure.schema_digest has neither 32 bytes nor none: 1");
  EXPECT_EQ(RefusalOf([](E& e) { e.mutable_exposure()->mutable_user_features()->add_dense(NAN); }),
            "exposure.user_features.dense has a value that is not finite");
  EXPECT_EQ(RefusalOf([](E& e) { e.mutable_exposure()->mutable_context_features()->add_ids(1); }, {.values = 0}),
            "exposure.user_features.dense has more than max_values: 1 > 0");
  EXPECT_EQ(RefusalOf([](E& e) { e.mutable_exposure()->mutable_box()->set_lower(0.01F); }),
            "exposure.box is not -2 <= lower <= 0 <= upper <= 2: 0.01 0.15");
  EXPECT_EQ(RefusalOf([](E& e) { e.mutable_exposure()->set_log_density(INFINITY); }), "exposure.log_density is not finite");
  EXPECT_EQ(RefusalOf([](E& e) { e.mutable_exposure()->clear_box(); }), "exposure.log_density stands without a box");
  EXPECT_EQ(RefusalOf([](E&) {}, {.items = 1}), "exposure.items has more than max_items: 2 > 1");
  EXPECT_EQ(RefusalOf([&](E& e) { item(e)->clear_item_id(); }), "exposure.items[1].item_id is empty");
  EXPECT_EQ(RefusalOf([&](E& e) { item(e)->set_position(0); }), "exposure.items[1].position is less than that of the item before: 0");
  EXPECT_EQ(RefusalOf([&](E& e) { item(e)->mutable_item_features()->add_dense(-INFINITY); }),
            "exposure.items[1].item_features.dense has a value that is not finite");
  EXPECT_EQ(RefusalOf([&](E& e) { item(e)->set_task_scores(0, NAN); }), "exposure.items[1].task_scores has a value that is not finite");
  EXPECT_EQ(RefusalOf([&](E& e) { item(e)->add_task_scores(1); }), "exposure.items[1].task_scores has another width than that of the first item: 2");
  EXPECT_EQ(RefusalOf([&](E& e) { item(e)->set_baseline_action(0, -1.5F); }), "exposure.items[1].baseline_action has a value outside [-1, 1]: -1.5");
  EXPECT_EQ(RefusalOf([&](E& e) { item(e)->add_executed_action(0); }), "exposure.items[1].executed_action has another width than baseline_action: 3 for 2");
  EXPECT_EQ(RefusalOf([&](E& e) { item(e)->clear_executed_action(); }), "exposure.items[1].executed_action has another width than baseline_action: 0 for 2");
  EXPECT_EQ(RefusalOf([&](E& e) { item(e)->clear_executed_action(), item(e)->clear_baseline_action(); }),
            "exposure.items[1].baseline_action has another width than that of the first item: 0");
  EXPECT_EQ(RefusalOf([](E& e) { for (auto& i : *e.mutable_exposure()->mutable_items()) i.clear_task_scores(); }),
            "exposure.items[0].baseline_action is not twice as wide as task_scores: 2 for 0");
  EXPECT_EQ(RefusalOf([&](E& e) { item(e)->set_executed_action(1, 0.75F); }),
            "exposure.items[1].executed_action leaves the box around baseline_action by 0.25 in dimension 1");
  EXPECT_EQ(RefusalOf([&](E& e) { item(e)->set_fused_score(NAN); }), "exposure.items[1].fused_score is not finite");
  EXPECT_EQ(RefusalOf([](E& e) { e.mutable_feedback()->set_item_id("i"); }), "feedback.request_id is empty");
  EXPECT_EQ(RefusalOf([](E& e) { *e.mutable_feedback() = Click().feedback(), e.mutable_feedback()->set_watch_ms(-1); }),
            "feedback.watch_ms is negative: -1");
  EXPECT_EQ(RefusalOf([](E& e) { *e.mutable_feedback() = Click().feedback(), e.mutable_feedback()->set_item_duration_ms(-1); }),
            "feedback.item_duration_ms is negative: -1");
  EXPECT_EQ(RefusalOf([](E& e) { e.mutable_control(), e.clear_user_id(); }), "control.kind is absent: neither tick nor rules");
  EXPECT_EQ(RefusalOf([](E& e) { e.mutable_control()->mutable_tick(), e.clear_user_id(); }), "accepted");
  EXPECT_EQ(RefusalOf([](E& e) { e.mutable_control()->mutable_tick()->set_predecessor_offset(-1); }), "accepted");
  EXPECT_EQ(RefusalOf([](E& e) { e.mutable_control()->mutable_tick()->set_predecessor_offset(-2); }),
            "control.tick.predecessor_offset is less than -1: -2");
}

TEST(EventCodecTest, SessionRulesAreHeldToTheirBoundsInAFormatThatIsKnown) {
  const auto refusal_of = [](auto change) {
    return RefusalOf([&](v1::Event& event) {
      v1::SessionRules& rules = *event.mutable_control()->mutable_rules();
      rules.set_version(1);
      rules.set_format(1);
      rules.set_max_events(1);
      change(rules);
    });
  };
  using R = v1::SessionRules;
  EXPECT_EQ(refusal_of([](R&) {}), "accepted");
  EXPECT_EQ(refusal_of([](R& r) { r.set_version(0); }), "control.rules.version is 0");
  EXPECT_EQ(refusal_of([](R& r) { r.set_format(0); }), "control.rules.format is 0");
  EXPECT_EQ(refusal_of([](R& r) { r.set_gap_ms(-1); }), "control.rules.gap_ms is negative: -1");
  EXPECT_EQ(refusal_of([](R& r) { r.set_gap_ms(1'000'000'000'000'000); }), "accepted");
  EXPECT_EQ(refusal_of([](R& r) { r.set_lateness_ms(1'000'000'000'000'001); }),
            "control.rules.lateness_ms is larger than 1000000000000000 ms: 1000000000000001");
  EXPECT_EQ(refusal_of([](R& r) { r.set_cut_every_ms(-1); }), "control.rules.cut_every_ms is negative: -1");
  EXPECT_EQ(refusal_of([](R& r) { r.set_max_events(0); }), "control.rules.max_events is 0");
  // Another format may mean other things by its fields: it is the sessionizer that does not go on with it.
  EXPECT_EQ(refusal_of([](R& r) { r.set_format(2), r.set_max_events(0), r.set_gap_ms(-1); }), "accepted");
}

TEST(EventCodecTest, ProtobufKeepsWhatANewerProducerSays) {
  auto newer = Click();
  newer.mutable_feedback()->set_kind(static_cast<v1::Feedback::Kind>(77));
  newer.GetReflection()->MutableUnknownFields(&newer)->AddLengthDelimited(99, "new");

  v1::Event event;
  ASSERT_THAT(DecodeEvent(newer.SerializeAsString(), {}, &event), IsOk());

  EXPECT_EQ(event.SerializeAsString(), newer.SerializeAsString());
  ASSERT_THAT(DecodeEvent(EncodeEventJson(event), {}, &event), IsOk()) << "JSON has no name for it";
  EXPECT_EQ(event.feedback().kind(), v1::Feedback::UNSPECIFIED);
}

TEST(EventCodecTest, AReusedEventHoldsNothingOfTheOneBefore) {
  v1::Event event;
  ASSERT_THAT(DecodeEvent(Shown().SerializeAsString(), {}, &event), IsOk());
  ASSERT_THAT(DecodeEvent(EncodeEventJson(Click()), {}, &event), IsOk());
  EXPECT_EQ(event.SerializeAsString(), Click().SerializeAsString());
  ASSERT_THAT(DecodeEvent(Shown().SerializeAsString(), {}, &event), IsOk());
  EXPECT_EQ(event.SerializeAsString(), Shown().SerializeAsString());
}

TEST(EventCodecTest, LimitsComeFromTheSettings) {
  const auto limits = LimitsOf(DefaultSettings().ingest());
  EXPECT_EQ(limits.event_bytes, 1 << 20);
  EXPECT_EQ(limits.string_bytes, 1024);
  EXPECT_EQ(limits.items, 256);
  EXPECT_EQ(limits.values, 4096);
}

}  // namespace
}  // namespace fuseline
