# Runs a server until its owner says so or is gone: the owner holds the other end of standard input.
# Arguments: the signal that stops the server, its log, a directory to remove when the owner is gone
# (or nothing), the command. Prints the server's process id.
signal=$1 log=$2 scratch=$3
shift 3
exec 3<&0
"$@" 3<&- </dev/null >>"$log" 2>&1 &
server=$!
echo "$server"
(
    word=
    read -r word
    trap '' TERM
    kill -s "$signal" "$server"
    ticks=0
    while kill -s 0 "$server"; do
        # 15 seconds to stop in good order, then by force.
        [ "$ticks" -lt 750 ] || kill -s KILL "$server"
        ticks=$((ticks + 1))
        sleep 0.02
    done
    [ "$word" = stop ]
) <&3 >/dev/null 2>&1 &
watcher=$!
exec 3<&- >/dev/null
wait "$server"
status=$?
kill "$watcher" 2>/dev/null
wait "$watcher"
[ $? -ne 1 ] || [ -z "$scratch" ] || rm -rf -- "$scratch"
exit "$status"
