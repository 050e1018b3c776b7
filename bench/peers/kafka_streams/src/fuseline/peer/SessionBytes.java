package fuseline.peer;

import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.HashSet;
import java.util.Set;

/**
 * The aggregate of one session as the bytes that the store holds: the number of events, then those that are kept, each
 * as {length, hash of its id, the event's own bytes}. The store hands these out and takes new ones for every event,
 * so an aggregate of objects would be decoded and encoded as often; here adding an event is one scan for its id and one
 * copy.
 */
final class SessionBytes {
  static final byte[] EMPTY = new byte[Integer.BYTES];
  private static final int HEAD = 2 * Integer.BYTES;

  /** Events beyond `maxEvents` are counted and left out, and not looked for again. */
  static byte[] add(byte[] session, ParsedEvent event, int maxEvents) {
    int events = ByteBuffer.wrap(session).getInt();
    if (events >= maxEvents) return withCount(session.clone(), events + 1);
    if (contains(session, event)) return session;
    byte[] next = Arrays.copyOf(session, session.length + HEAD + event.bytes().length);
    ByteBuffer.wrap(next, session.length, next.length - session.length)
        .putInt(event.bytes().length).putInt(event.id().hashCode()).put(event.bytes());
    return withCount(next, events + 1);
  }

  /** Joins two sessions: the events of `a`, then those of `b` that `a` has not. */
  static byte[] merge(byte[] a, byte[] b, int maxEvents) {
    if (a.length == EMPTY.length) return b;
    Set<String> ids = new HashSet<>();
    byte[] joined = a;
    for (ByteBuffer rest = events(a); rest.hasRemaining(); ) ids.add(next(rest).id());
    for (ByteBuffer rest = events(b); rest.hasRemaining(); ) {
      ParsedEvent event = next(rest);
      if (ids.add(event.id())) joined = add(joined, event, maxEvents);
    }
    return joined;
  }

  static int count(byte[] session) {
    return ByteBuffer.wrap(session).getInt();
  }

  private static byte[] withCount(byte[] session, int events) {
    ByteBuffer.wrap(session).putInt(events);
    return session;
  }

  private static ByteBuffer events(byte[] session) {
    return ByteBuffer.wrap(session).position(Integer.BYTES);
  }

  private static ParsedEvent next(ByteBuffer rest) {
    byte[] bytes = new byte[rest.getInt()];
    rest.getInt();
    rest.get(bytes);
    return ParsedEvent.parse(bytes);
  }

  private static boolean contains(byte[] session, ParsedEvent event) {
    int hash = event.id().hashCode();
    ByteBuffer buffer = ByteBuffer.wrap(session);
    for (int at = Integer.BYTES; at < session.length; ) {
      int length = buffer.getInt(at);
      int begin = at + HEAD;
      if (buffer.getInt(at + Integer.BYTES) == hash
          && ParsedEvent.parse(Arrays.copyOfRange(session, begin, begin + length)).id().equals(event.id())) {
        return true;
      }
      at = begin + length;
    }
    return false;
  }
}
