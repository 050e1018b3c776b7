package fuseline.peer;

import java.time.Duration;
import java.util.concurrent.atomic.LongAdder;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.KStream;
import org.apache.kafka.streams.kstream.KTable;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.SessionWindowedKStream;
import org.apache.kafka.streams.kstream.SessionWindows;
import org.apache.kafka.streams.kstream.Suppressed;
import org.apache.kafka.streams.kstream.Suppressed.BufferConfig;
import org.apache.kafka.streams.kstream.Windowed;
import org.apache.kafka.streams.kstream.WindowedSerdes;
import org.apache.kafka.streams.state.SessionStore;

/** Events by user → sessions (gap 30 min, grace 60 s) in a RocksDB store → each closed session once. */
final class SessionTopology {
  static final Duration GAP = Duration.ofMinutes(30);
  static final Duration GRACE = Duration.ofSeconds(60);
  private static final int MAX_EVENTS = 2000;

  final LongAdder events = new LongAdder();    // Taken from the topic.
  final LongAdder sessions = new LongAdder();  // Closed.
  final LongAdder accepted = new LongAdder();  // Events in them.

  /** `keepEvents`: a session holds its events, none twice; otherwise only their number, the least that one can keep. */
  Topology build(String from, String to, boolean keepEvents) {
    StreamsBuilder builder = new StreamsBuilder();
    Consumed<String, ParsedEvent> consumed = Consumed.with(Serdes.String(), ParsedEvent.serde())
        .withTimestampExtractor((record, partitionTime) -> {
          events.increment();
          return ((ParsedEvent) record.value()).timeMs();
        });
    SessionWindowedKStream<String, ParsedEvent> windows = builder.stream(from, consumed)
        .groupByKey(Grouped.with(Serdes.String(), ParsedEvent.serde()))
        .windowedBy(SessionWindows.ofInactivityGapAndGrace(GAP, GRACE));
    var key = WindowedSerdes.sessionWindowedSerdeFrom(String.class);
    if (keepEvents) {
      closed(windows.aggregate(() -> SessionBytes.EMPTY,
          (user, event, session) -> SessionBytes.add(session, event, MAX_EVENTS),
          (user, a, b) -> SessionBytes.merge(a, b, MAX_EVENTS),
          Materialized.<String, byte[], SessionStore<Bytes, byte[]>>as("sessions")
              .withKeySerde(Serdes.String()).withValueSerde(Serdes.ByteArray()).withCachingEnabled()))
          .peek((user, session) -> count(SessionBytes.count(session)))
          .to(to, Produced.with(key, Serdes.ByteArray()));
    } else {
      closed(windows.count(Materialized.<String, Long, SessionStore<Bytes, byte[]>>as("sessions")
              .withKeySerde(Serdes.String()).withValueSerde(Serdes.Long()).withCachingEnabled()))
          .peek((user, number) -> count(number))
          .to(to, Produced.with(key, Serdes.Long()));
    }
    return builder.build();
  }

  private static <V> KStream<Windowed<String>, V> closed(KTable<Windowed<String>, V> table) {
    return table.suppress(Suppressed.untilWindowCloses(BufferConfig.unbounded())).toStream();
  }

  private void count(long eventsOfSession) {
    sessions.increment();
    accepted.add(eventsOfSession);
  }
}
