#!/bin/bash
# Starts Debian's docker-registry in the background, on plain HTTP, and waits until it answers:
#
#     tests/images/registry.sh 127.0.0.1:5000 DIRECTORY
#
# Its images, its log (registry.log) and its process id (registry.pid) are in DIRECTORY. Prints the process id.
set -euo pipefail

fail() {
	echo "tests/images/registry.sh: $*" >&2
	exit 1
}

[ $# -eq 2 ] || fail "usage: $0 ADDRESS DIRECTORY"
address=$1
mkdir -p "$2"
directory=$(cd "$2" && pwd)
command -v docker-registry >/dev/null || fail "docker-registry is missing (package docker-registry)"

cat >"$directory/config.yml" <<CONFIG
version: 0.1
log: {level: warn}
storage:
  filesystem: {rootdirectory: "$directory/data"}
  delete: {enabled: true}
http:
  addr: "$address"
CONFIG

host=${address%:*} port=${address##*:}
answers() { (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; }
! answers || fail "something else is listening on $address"

setsid docker-registry serve "$directory/config.yml" >"$directory/registry.log" 2>&1 </dev/null &
pid=$!
echo "$pid" >"$directory/registry.pid"
# There is no event for another program's port; this is asked for at most ten seconds.
for _ in $(seq 200); do
	if answers; then
		echo "$pid"
		exit 0
	fi
	kill -0 "$pid" 2>/dev/null || fail "docker-registry ended: $(tail -n 3 "$directory/registry.log")"
	sleep 0.05
done
kill "$pid"
fail "docker-registry does not answer on $address"
