#!/usr/bin/env bash
# Builds the Kafka Streams peer: jars from Maven Central into the cache folder, classes into build/peers/kafka_streams.
# Needs mvn, protoc and a JDK 17: deploy/setup.sh --with-peers installs them.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
version=$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$root/deploy/kafka/pom.xml")
jars=${XDG_CACHE_HOME:-$HOME/.cache}/fuseline/kafka-streams-$version
classes=$root/build/peers/kafka_streams

for tool in javac protoc; do
  command -v $tool >/dev/null || { echo "build.sh: no $tool; run deploy/setup.sh --with-peers" >&2; exit 3; }
done
if [ ! -e "$jars/kafka-streams-$version.jar" ]; then
  command -v mvn >/dev/null || { echo "build.sh: no mvn; run deploy/setup.sh --with-peers" >&2; exit 3; }
  mvn --quiet --batch-mode -f "$here/pom.xml" -Dkafka.version="$version" dependency:copy-dependencies \
    -DincludeScope=runtime -DoutputDirectory="$jars.partial.$$"
  rm -rf "$jars"
  mv "$jars.partial.$$" "$jars"
fi
rm -rf "$classes"
mkdir -p "$classes/generated"
protoc --proto_path="$root/proto" --java_out="$classes/generated" fuseline/v1/event.proto
javac --release 17 -nowarn -cp "$jars/*" -d "$classes/classes" "$here"/src/fuseline/peer/*.java \
  $(find "$classes/generated" -name '*.java')
