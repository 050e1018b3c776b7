#!/usr/bin/env bash
# Runs one Kafka broker in the foreground: broker.sh DIR PORT [KEY=VALUE …]
#
# DIR holds its data and is formatted on first use; PORT is where clients connect, PORT+1 is the controller's, both on
# 127.0.0.1. KEY=VALUE overrides a property of the broker. FUSELINE_KAFKA_CONTROLLER_PORT names another controller port,
# FUSELINE_KAFKA_HEAP the heap (512m).
# The process becomes java, so a signal sent to it reaches the broker.
set -euo pipefail

if [ $# -lt 2 ]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
port=$2
controller_port=${FUSELINE_KAFKA_CONTROLLER_PORT:-$((port + 1))}

version=$(sed -n 's|.*<kafka.version>\(.*\)</kafka.version>.*|\1|p' "$here/pom.xml")
jars=${FUSELINE_KAFKA_HOME:-${XDG_CACHE_HOME:-$HOME/.cache}/fuseline/kafka-$version}/lib
if [ ! -e "$jars/kafka_2.13-$version.jar" ]; then
  echo "broker.sh: no Kafka $version in $jars; run deploy/setup.sh, or set FUSELINE_KAFKA_HOME" >&2
  exit 3
fi

properties=$dir/server.properties
sed -e "s|@HOST@|127.0.0.1|g" -e "s|@PORT@|$port|g" -e "s|@CONTROLLER_PORT@|$controller_port|g" -e "s|@DIR@|$dir|g" \
  "$here/server.properties.in" >"$properties"

# The quoted * is java's: it means every jar of the folder. The compiler and collector choices halve the start.
java=(java -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Xshare:auto -cp "$jars/*"
      -Dorg.slf4j.simpleLogger.defaultLogLevel="${FUSELINE_KAFKA_LOG_LEVEL:-warn}")
if [ ! -e "$dir/data/meta.properties" ]; then
  # Any 16 bytes in URL-safe base64 name a cluster; random-uuid of the tool would cost one more virtual machine.
  cluster=$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c1-22)
  case $cluster in -*) cluster=A${cluster#-} ;; esac
  "${java[@]}" kafka.tools.StorageTool format --standalone --ignore-formatted -t "$cluster" -c "$properties" >"$dir/format.log" 2>&1 ||
    { cat "$dir/format.log" >&2; exit 1; }
fi
overrides=()
for override in "${@:3}"; do overrides+=(--override "$override"); done
exec "${java[@]}" -Xms128m -Xmx"${FUSELINE_KAFKA_HEAP:-512m}" kafka.Kafka "$properties" "${overrides[@]}"
