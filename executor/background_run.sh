# Runs a background command in a box and keeps its output; by BusyBox's sh and tools as well as by Debian's.
#
#   $1 id  $2 bytes of output kept  $3 bytes of one piece of the log  $4.. what `about` holds, one line each, up to "--"
#   then the command
#
# It answers one line on its output ("started", or "there" and the first line of `about`) and lets go of its streams.
# In its directory: about, pid ("pid starttime" of this shell), log.<offset of its first byte>.., code once the command
# has ended. Exit codes before that: 73 too many run, 74 the disk is full, 77 the volume takes nothing from this user.
id=$1 limit=$2 piece=$3
shift 3
base=/var/lib/clustercode
dir=$base/$id
mask=$(umask)
unset CLUSTERCODE_SCRIPT
umask 022

# Whose directory is where the command is (in /proc, in time since boot), that one runs: a pid alone comes again.
alive() {
  [ -f "$1/pid" ] && [ ! -L "$1/pid" ] && read -r pid time <"$1/pid" && read -r line <"/proc/$pid/stat" || return 1
  set -- "$time" ${line##*) }
  [ "$1" = "${21}" ] && [ "$2" != Z ]
} 2>/dev/null

# At most 100 are kept: the oldest that have ended make room.
count=0
for d in $(ls -t "$base"); do
  case $d in b-*) ;; *) continue ;; esac
  count=$((count + 1))
  [ "$count" -lt 100 ] || [ "$d" = "$id" ] && continue
  if alive "$base/$d" || ! rm -rf "$base/${d:?}" 2>/dev/null; then full=1; fi
done

if ! mkdir "$dir" 2>/dev/null; then
  [ -d "$dir" ] && [ ! -L "$dir" ] || exit 77
  printf 'there '
  { [ -f "$dir/about" ] && head -n 1 "$dir/about" | head -c 200; } 2>/dev/null
  exit 0
fi
[ -z "$full" ] || { rmdir "$dir"; exit 73; }
while [ "$1" != -- ]; do
  printf '%s\n' "$1" >>"$dir/about.new" || { rm -rf "$dir"; exit 74; }
  shift
done
shift
printf '        \n' >"$dir/code.new" || { rm -rf "$dir"; exit 74; } # the code has its place on a disk that fills up
read -r line <"/proc/$$/stat"
printf '%s %s\n' "$$" "$(set -- ${line##*) }; echo "${20}")" >"$dir/pid" && mv "$dir/about.new" "$dir/about" ||
  { rm -rf "$dir"; exit 74; }
echo started
exec </dev/null >/dev/null 2>&1

# The log: dd reads what there is and writes it at once; it never takes more than it writes, and its reads are counted,
# so a piece has an end. The next piece is named by the sum of all sizes: offsets stay true whatever was removed.
write_log() {
  oldest=0 start=0 size=0 name=log.000000000000000
  : >"$dir/$name"
  while :; do
    while [ $((start + size - oldest)) -gt $((limit - piece)) ] && [ "$oldest" -lt "$start" ]; do
      set -- "$dir"/log.*
      rm -f "$1"
      oldest=${2##*/log.}
      oldest=${oldest#"${oldest%%[!0]*}"}
    done
    dd bs=65536 count=$((piece / 65536)) >>"$dir/$name" || break
    new=$(stat -c %s "$dir/$name") || break
    [ "$new" != "$size" ] || return
    size=$new
    [ "$size" -ge "$piece" ] || continue
    start=$((start + size)) size=0 name=$(printf 'log.%015d' "$start")
    : >"$dir/$name" || break
  done
  # The disk is full: the command goes on, and whoever reads the log is told that it does not.
  : >"$dir/broken"
  cat >/dev/null
}

# A command that signals its process group (`kill 0`) means itself, not those who keep its log.
trap '' HUP INT QUIT TERM USR1 USR2
{
  (
    trap - HUP INT QUIT TERM USR1 USR2
    umask "$mask"
    unset CLUSTERCODE_KEEPER
    # By path, so that the command surely gets the environment of its own that kills tell it by: BusyBox's `exec` of
    # a program that it has itself only jumps there.
    exec /bin/sh -c 'exec "$@"' sh "$@"
  ) 2>&1
  printf '%s\n' "$?" 1<>"$dir/code.new" && mv "$dir/code.new" "$dir/code"
} | write_log
