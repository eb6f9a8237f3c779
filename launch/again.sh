#!/usr/bin/env bash
# launch/again.sh COMMAND...: runs it, and runs it again, MOST times at most, after every exit
# status but 0 (done) and 2 (a user's mistake). SIGTERM goes on to the command, so that it saves a
# checkpoint, and then nothing is started again. Its own exit status is the command's last.
set -u
MOST=${MOST:-20}   # so that a pod does not fail at full price for days
PAUSE=${PAUSE:-10} # seconds, for the other hosts' processes to end as well
stopped=false
child=
trap 'stopped=true; trap "" TERM INT; [ -z "$child" ] || kill -TERM "$child"' TERM INT

for ((run = 0; run <= MOST; run++)); do
  "$@" &
  child=$!
  $stopped && kill -TERM "$child" # it came before the child was known
  wait "$child"
  status=$?
  if $stopped; then # the signal ended that wait, not the command
    wait "$child"
    status=$?
  fi
  if $stopped || [ "$status" -eq 0 ] || [ "$status" -eq 2 ]; then
    exit "$status"
  fi
  echo "again.sh: exit status $status after run $((run + 1)) of at most $((MOST + 1))" >&2
  if [ "$run" -lt "$MOST" ]; then
    sleep "$PAUSE" &
    child=$!
    wait "$child"
  fi
  $stopped && break
done
exit "$status"
