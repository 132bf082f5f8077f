# Lists the background commands of a box, the oldest first: a line each with id, state, exit code or -, bytes of output,
# start and command.
tab=$(printf '\t')
plain() { [ -f "$1" ] && [ ! -L "$1" ]; }
alive() {
  plain "$1/pid" && read -r pid time <"$1/pid" && read -r line <"/proc/$pid/stat" || return 1
  set -- "$time" ${line##*) }
  [ "$1" = "${21}" ] && [ "$2" != Z ]
} 2>/dev/null
for dir in /var/lib/clustercode/b-*; do
  [ -d "$dir" ] && [ ! -L "$dir" ] && plain "$dir/about" || continue
  if alive "$dir"; then state=running; else state=ended; fi
  code=- last= bytes=0
  [ "$state" = ended ] && plain "$dir/code" && read -r code <"$dir/code"
  for piece in "$dir"/log.*; do plain "$piece" && last=$piece; done
  if [ -n "$last" ]; then
    bytes=${last##*/log.}
    case $bytes in *[!0-9]* | ????????????????*) bytes=0 ;; esac
    bytes=${bytes#"${bytes%%[!0]*}"}
    bytes=$((${bytes:-0} + $(stat -c %s "$last")))
  fi
  { read -r _ && read -r _ && read -r begun && read -r command; } <"$dir/about"
  printf "%.40s$tab%.8s$tab%.8s$tab%s$tab%.40s$tab%.1000s\n" "${dir##*/}" "$state" "$code" "$bytes" "$begun" "$command"
done
