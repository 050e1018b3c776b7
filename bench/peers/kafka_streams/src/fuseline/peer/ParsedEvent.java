package fuseline.peer;

import com.google.protobuf.InvalidProtocolBufferException;
import fuseline.v1.EventOuterClass.Event;
import org.apache.kafka.common.errors.SerializationException;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;

/** An event that was parsed once, beside the bytes that it came in: those are what a session keeps. */
record ParsedEvent(byte[] bytes, String id, long timeMs) {
  /** Parses with the generated class, so every field is checked for well-formed UTF-8 and wire format. */
  static ParsedEvent parse(byte[] bytes) {
    try {
      Event event = Event.parseFrom(bytes);
      return new ParsedEvent(bytes, event.getEventId(), event.getEventTimeMs());
    } catch (InvalidProtocolBufferException broken) {
      throw new SerializationException(broken);
    }
  }

  static Serde<ParsedEvent> serde() {
    return Serdes.serdeFrom((topic, event) -> event.bytes, (topic, bytes) -> parse(bytes));
  }
}
