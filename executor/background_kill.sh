# Ends all that a background command started: a signal first, KILL for what is left after the grace.
#
#   $1 id  $2 signal, or "look" to say only whether anything is there (exit code 1)  $3 tenths of a second of grace
#
# It runs as the command's user: root without capabilities may neither look at others' environment nor signal them.
# Those who keep the log are spared: they end by themselves once the command has, and note its exit code.
id=$1 signal=$2 grace=$3 sessions=' ' patience=20
scan() {
  pids= keepers=
  for p in /proc/[0-9]*; do
    { read -r line <"$p/stat"; } 2>/dev/null || continue
    set -- ${line##*) }
    [ "$1" != Z ] || continue
    { env=$(cat "$p/environ"); } 2>/dev/null
    case $env in
      *CLUSTERCODE_KEEPER="$id"*) keepers="$keepers ${p#/proc/}" ;;
      *CLUSTERCODE_EXEC=background-"$id"*)
        pids="$pids ${p#/proc/}"
        case $sessions in *" $4 "*) ;; *) sessions="$sessions$4 " ;; esac ;;
      *) case $sessions in *" $4 "*) pids="$pids ${p#/proc/}" ;; esac ;;
    esac
  done
}
gone() {
  scan
  [ -z "$pids" ] || return 1
  [ -n "$keepers" ] || return 0
  # A keeper that stays has a program to wait for that hides its environment, or is none.
  patience=$((patience - 1))
  [ "$patience" -gt 0 ] || kill -s KILL $keepers
  return 1
} 2>/dev/null
scan
if [ "$signal" = look ]; then [ -z "$pids" ]; exit; fi
scan # again, for those of its sessions that come before the first one found
[ -n "$pids" ] && { kill -s "$signal" $pids; kill -s CONT $pids; } 2>/dev/null
while [ "$grace" -gt 0 ]; do
  gone && exit 0
  sleep 0.1
  grace=$((grace - 1))
done
tries=100
while [ "$tries" -gt 0 ]; do
  gone && exit 0
  [ -z "$pids" ] || kill -s KILL $pids 2>/dev/null
  sleep 0.05
  tries=$((tries - 1))
done
exit 1
