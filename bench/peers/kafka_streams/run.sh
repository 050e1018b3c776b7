#!/usr/bin/env bash
# Runs the Kafka Streams peer that build.sh made: run.sh HOST:PORT TOPIC, one pass for each line of standard input.
# FUSELINE_PEER_JAVA adds to the flags of the virtual machine. Exits with 3 where the peer was not built.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
version=$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$root/deploy/kafka/pom.xml")
jars=${XDG_CACHE_HOME:-$HOME/.cache}/fuseline/kafka-streams-$version
classes=$root/build/peers/kafka_streams/classes
if [ ! -e "$jars" ] || [ ! -e "$classes" ]; then
  echo "run.sh: the Kafka Streams peer is not built: make bench-peers" >&2
  exit 3
fi
exec java -Xms2g -Xmx2g ${FUSELINE_PEER_JAVA:-} \
  -Dorg.slf4j.simpleLogger.defaultLogLevel="${FUSELINE_KAFKA_LOG_LEVEL:-error}" \
  -cp "$jars/*:$classes" fuseline.peer.SessionsPeer "$@"
