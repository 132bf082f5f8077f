#!/bin/sh
# ClusterCode's worker agent in one file: this script, and behind it what scripts/dist packed. It unpacks itself the first
# time, and from then on becomes what it unpacked: the same process, with Python and all libraries inside.
# Root unpacks for everybody, others for themselves; each build has a folder of its own.
set -eu

case $0 in
/*) CLUSTERCODE_ONE_FILE=$0 ;;
*) CLUSTERCODE_ONE_FILE=$PWD/$0 ;;
esac
export CLUSTERCODE_ONE_FILE
everybodys=/var/cache/clustercode # root's alone to make
own=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/clustercode
hint=", or name another directory in XDG_CACHE_HOME"
# Root runs nothing from another user's directories, which its environment may name.
[ "$(id -u)" != 0 ] || own=~root/.cache/clustercode hint=
case $own in /*) ;; *) own=/nonexistent ;; esac # nor from where it happens to be started
build=@BUILD@

become() { # PLACE ARGUMENTS; returns if it is not there, or there and another user's
    program=$1/$build/worker-agent
    if [ -x "$program" ] && { [ "$1" = "$everybodys" ] || [ -O "$program" ]; }; then
        shift
        exec "$program" "$@"
    fi
}

unpack() ( # PLACE
    umask 022
    unpacking=$(mkdir -p "$1" && mktemp -d "$1/unpacking.XXXXXX") || exit
    trap 'rm -rf "$unpacking"' EXIT
    trap 'exit 4' HUP INT TERM
    # All or nothing. Where another start was quicker it is moved into that one's folder, from where it goes.
    tail -n +@LINES@ "$0" | tar -xzmo -C "$unpacking" && chmod 755 "$unpacking" && mv "$unpacking" "$1/$build" || exit
    rm -rf "$1/$build/${unpacking##*/}"
)

become "$everybodys" "$@"
become "$own" "$@"
said=
for place in "$everybodys" "$own"; do
    said="$said
$(unpack "$place" 2>&1 | sed -n 1,3p)" || true
    become "$place" "$@"
done
echo "worker-agent cannot unpack itself: free 80 MB in $own$hint.$said" >&2
exit 4
