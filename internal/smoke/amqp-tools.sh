#!/usr/bin/env bash
# The command line tools of librabbitmq (Debian amqp-tools) against the broker
# at AMQP_URL. They know no confirms and no returns; all else is here.
set -euo pipefail
queue=smoke-amqp-tools-$$
check() { [ "$1" = "$2" ] || { echo "amqp-tools: $3: '$1', want '$2'"; exit 1; }; }

check "$(amqp-declare-queue --url "$AMQP_URL" -d -q "$queue")" "$queue" "declared queue"
for i in 0 1 2 3; do
    amqp-publish --url "$AMQP_URL" -r "$queue" -p -C text/plain -b "message $i"
done
# Publishes are unconfirmed: what a get on another connection finds first may
# be nothing yet.
got=
for _ in $(seq 100); do
    got=$(amqp-get --url "$AMQP_URL" -q "$queue") && break
done
check "$got" "message 0" "got"
# A message whose command fails is not acked: with the connection's end it is
# back. That may take a moment, in which the next ones can overtake it.
timeout 20 amqp-consume --url "$AMQP_URL" -q "$queue" -c 1 false || true
seen=$(timeout 20 amqp-consume --url "$AMQP_URL" -q "$queue" -c 3 -p 1 -- sh -c 'cat; echo' | sort | tr '\n' ,)
check "$seen" "message 1,message 2,message 3," "consumed"
# A server-named queue and consuming from an exchange.
broadcast=$(mktemp)
timeout 20 amqp-consume --url "$AMQP_URL" -e amq.fanout -r key -c 1 cat >"$broadcast" &
consumer=$!
for _ in $(seq 200); do
    amqp-publish --url "$AMQP_URL" -e amq.fanout -r key -b broadcast
    kill -0 "$consumer" 2>/dev/null || break
done
wait "$consumer"
check "$(cat "$broadcast")" broadcast "from the exchange"
rm -f "$broadcast"
check "$(amqp-delete-queue --url "$AMQP_URL" -q "$queue")" 0 "messages at delete"
dpkg-query -W -f '${Package} ${Version}\n' amqp-tools
