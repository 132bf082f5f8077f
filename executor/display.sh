# Makes sure that a box's display runs, as its default user: `sh -c <this> sh WIDTHxHEIGHT MARKER`. Instant where it
# does. Ends with 0 once the VNC server answers on its socket; with 3 where the image lacks a program, which it then
# names; with 4 where the display did not come up, with the end of its log.
#
# The display lives in a session of its own, which holds a lock while it is starting or running: however often this
# is run at the same time, and whatever became of those who ran it, there is one display. Its processes carry MARKER
# in the place of ours, so that nothing kills them as leftovers of an exec.
dir=/tmp/.clustercode-display size=$1 marker=$2 work=$PWD
for program in Xvnc flock setsid socat; do
  command -v "$program" >/dev/null || { echo "$program"; exit 3; }
done
{ mkdir -p -m 700 "$dir" && cd "$dir"; } 2>&1 || exit 4

answers() { socat -u OPEN:/dev/null UNIX-CONNECT:vnc.sock 2>/dev/null; }
answers && exit 0

CLUSTERCODE_EXEC=$marker DISPLAY=:1 setsid sh -c '
  exec 9>lock
  flock -n 9 || exit
  # Left by a display that is gone: the box was stopped meanwhile.
  rm -f vnc.sock /tmp/.X1-lock /tmp/.X11-unix/X1
  # No port, no abstract socket (an open box shares the network of the machine), no viewer that throws others out,
  # and no waiting time for a viewer that hung up five times.
  Xvnc "$DISPLAY" -rfbport=-1 -rfbunixpath="$PWD/vnc.sock" -SecurityTypes=None -AlwaysShared -UseBlacklist=0 \
    -nolisten tcp -nolisten local -noreset -geometry "$1" -depth 24 -Log="*:stderr:0" 9>&- 2>log &
  server=$!
  while [ ! -S /tmp/.X11-unix/X1 ]; do kill -0 "$server" 2>/dev/null || exit; sleep 0.05; done
  cd "$2"
  clustercode-desktop 9>&- &
  wait "$server"
' sh "$size" "$work" >/dev/null 2>&1 </dev/null &

tries=400
until answers; do
  tries=$((tries - 1))
  if [ "$tries" = 0 ] || { ! kill -0 $! 2>/dev/null && flock -n lock true; }; then
    tail -n 3 log
    exit 4
  fi
  sleep 0.05
done
