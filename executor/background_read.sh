# Tells how a background command is and reads its log, waiting for more if asked to.
#
#   $1 id  $2 offset, or - for the oldest byte kept  $3 bytes at most  $4 tenths of a second to wait
#
# First line: state ("running" or "ended"), exit code or -, oldest offset kept, end, offset of what follows, "broken"
# or -, user. Then the bytes. Exit code 72: there is no such command.
dir=/var/lib/clustercode/$1 from=$2 most=$3 wait=$4
[ -d "$dir" ] && [ ! -L "$dir" ] || exit 72
plain() { [ -f "$1" ] && [ ! -L "$1" ]; }
alive() {
  plain "$dir/pid" && read -r pid time <"$dir/pid" && read -r line <"/proc/$pid/stat" || return 1
  set -- "$time" ${line##*) }
  [ "$1" = "${21}" ] && [ "$2" != Z ]
} 2>/dev/null
number() {
  number=${1##*/log.}
  case $number in '' | *[!0-9]* | ????????????????*) return 1 ;; esac
  number=${number#"${number%%[!0]*}"}
  number=${number:-0}
}
pieces() {
  oldest= end=0 at= file=
  for piece in "$dir"/log.*; do
    plain "$piece" && number "$piece" || continue
    [ -n "$oldest" ] || oldest=$number
    [ "$from" = - ] && from=$oldest
    [ "$number" -le "$from" ] && at=$number file=$piece
    [ -n "$file" ] || at=$number file=$piece # what was asked for is gone
    last=$piece end=$number
  done
  [ -n "$oldest" ] || { oldest=0 at=0; return; }
  end=$((end + $(stat -c %s "$last")))
  [ "$at" -ge "$from" ] || at=$from
}
while :; do
  # In this order: of one that has ended the log is whole.
  if alive; then state=running; else state=ended; fi
  pieces
  [ "$at" -lt "$end" ] || [ "$state" = ended ] || [ "$wait" -le 0 ] && break
  if sleep 0.2 2>/dev/null; then wait=$((wait - 2)); else sleep 1; wait=$((wait - 10)); fi
done
code=- user= broken=-
[ "$state" = ended ] && plain "$dir/code" && read -r code <"$dir/code"
plain "$dir/about" && { read -r user && read -r user; } <"$dir/about"
[ -e "$dir/broken" ] && broken=broken
printf '%.8s %.8s %s %s %s %s %.130s\n' "$state" "$code" "$oldest" "$end" "$at" "$broken" "$user"
[ "$at" -lt "$end" ] && [ "$most" -gt 0 ] || exit 0
number "$file"
tail -c "+$((at - number + 1))" "$file" | head -c "$most"
