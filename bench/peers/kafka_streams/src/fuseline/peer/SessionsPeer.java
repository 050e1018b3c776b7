package fuseline.peer;

import com.sun.management.OperatingSystemMXBean;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;

/**
 * Makes sessions of a topic again and again, and says what each pass cost.
 *
 * <p>It says `ready`; then each line of standard input, `GUARANTEE AGGREGATE` (exactly_once_v2 or at_least_once; events
 * or count), is one pass over the whole topic by a new application with empty state. It is answered by one line of
 * standard output:
 *
 * <pre>events=N sessions=N accepted=N cpu_s=X wall_s=X rss_mb=N</pre>
 *
 * <p>The costs are those between the first record's arrival and the group's commit of the topic's end: user and system
 * time of all threads of this process, so compiler, collector and RocksDB too, but neither the start of the virtual
 * machine nor that of the application. The first passes are slower, until the machine code is there: ask for one or two
 * to warm up.
 */
public final class SessionsPeer {
  private final String brokers;
  private final String topic;
  private final Admin admin;

  private SessionsPeer(String brokers, String topic) {
    this.brokers = brokers;
    this.topic = topic;
    this.admin = Admin.create(Map.of(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, brokers));
  }

  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 2) {
      System.err.println("usage: run.sh HOST:PORT TOPIC, then lines of `exactly_once_v2|at_least_once events|count`");
      System.exit(2);
    }
    SessionsPeer peer = new SessionsPeer(arguments[0], arguments[1]);
    System.out.println("ready");
    System.out.flush();
    BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = commands.readLine()) != null; ) {
      String[] words = line.trim().split(" +");
      System.out.println(peer.pass(words[0], words[1].equals("events")));
      System.out.flush();
    }
    peer.admin.close();
  }

  private String pass(String guarantee, boolean keepEvents) throws Exception {
    String application = "peer-" + System.nanoTime();
    String output = application + "-closed";
    Path folder = Files.createTempDirectory("kafka-streams-peer");
    Map<TopicPartition, Long> ends = ends();
    admin.createTopics(List.of(new NewTopic(output, ends.size(), (short) 1))).all().get();
    SessionTopology topology = new SessionTopology();
    KafkaStreams streams =
        new KafkaStreams(topology.build(topic, output, keepEvents), settings(application, guarantee, folder));
    System.gc();  // What the last pass left behind is not this one's.
    streams.start();
    while (topology.events.sum() == 0) Thread.sleep(1);
    long cpuNs = cpuNs();
    long wallNs = System.nanoTime();
    long total = ends.values().stream().mapToLong(Long::longValue).sum();
    while (topology.events.sum() < total || committed(application) < total) {
      Thread.sleep(50);
      if (streams.state() == KafkaStreams.State.ERROR) throw new IllegalStateException("the application has failed");
    }
    cpuNs = cpuNs() - cpuNs;
    wallNs = System.nanoTime() - wallNs;
    String answer = String.format("events=%d sessions=%d accepted=%d cpu_s=%.3f wall_s=%.3f rss_mb=%d",
        topology.events.sum(), topology.sessions.sum(), topology.accepted.sum(),
        cpuNs / 1e9, wallNs / 1e9, residentMb());
    streams.close(Duration.ofSeconds(60));
    streams.cleanUp();
    remove(application);
    removeFolder(folder);
    return answer;
  }

  /** What an operator would set for throughput; everything else is the default of the version. */
  private Properties settings(String application, String guarantee, Path folder) {
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, brokers);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, folder.toString());
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, guarantee);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 512L << 20);
    settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, 5000);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5000);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MIN_BYTES_CONFIG), 64 << 10);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG), 50);
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.BUFFER_MEMORY_CONFIG), 128L << 20);
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.MAX_REQUEST_SIZE_CONFIG), 1 << 20);
    return settings;
  }

  private Map<TopicPartition, Long> ends() throws Exception {
    var partitions = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions();
    Map<TopicPartition, OffsetSpec> latest = new HashMap<>();
    partitions.forEach(each -> latest.put(new TopicPartition(topic, each.partition()), OffsetSpec.latest()));
    Map<TopicPartition, Long> ends = new HashMap<>();
    admin.listOffsets(latest).all().get().forEach((partition, end) -> ends.put(partition, end.offset()));
    return ends;
  }

  private long committed(String application) throws Exception {
    return admin.listConsumerGroupOffsets(application).partitionsToOffsetAndMetadata().get().entrySet().stream()
        .filter(each -> each.getKey().topic().equals(topic) && each.getValue() != null)
        .mapToLong(each -> each.getValue().offset()).sum();
  }

  private void remove(String application) throws Exception {
    List<String> topics = new ArrayList<>(admin.listTopics().names().get());
    topics.removeIf(each -> !each.startsWith(application));
    admin.deleteTopics(topics).all().get();
  }

  private static void removeFolder(Path folder) throws IOException {
    try (var paths = Files.walk(folder)) {
      for (Path path : paths.sorted(Comparator.reverseOrder()).toList()) Files.delete(path);
    }
  }

  private static long cpuNs() {
    return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime();
  }

  private static long residentMb() throws IOException {
    try (var lines = Files.lines(Path.of("/proc/self/status"))) {
      return lines.filter(line -> line.startsWith("VmHWM:"))
          .mapToLong(line -> Long.parseLong(line.replaceAll("\\D", ""))).sum() >> 10;
    }
  }
}
