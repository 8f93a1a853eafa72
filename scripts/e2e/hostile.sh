#!/usr/bin/env bash
# Bad input: broken messages, bad values, crowds of connections, a full disk, a folder without permission.
#   hostile.sh [scry|postgres]
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
here=$(dirname "${BASH_SOURCE[0]}")

start_target "${1:-scry}"
python3 "$here/hostile.py" || FAILED=1
[ "$TARGET" = scry ] || exit $FAILED

# Starts scry on a folder and expects that it refuses within ten seconds, with a message that matches.
refused() {
  local name=$1 pattern=$2 output status=0
  shift 2
  output=$(timeout 10 "$@" 2>&1) || status=$?
  if [ $status -ne 0 ] && [ $status -ne 124 ] && grep -qiE -- "$pattern" <<<"$output" && ! grep -q 'panicked' <<<"$output"; then
    ok "serve refuses $name"
  else
    fail "serve refuses $name (status $status)"
    printf '%s\n' "$output" | head -n 10 | sed 's/^/    /'
  fi
}
listen=(--listen "127.0.0.1:$(free_port)")

refused "a folder that another process holds" 'another|in use|lock|held' "$SCRY" serve --data "$SCRY_DATA" "${listen[@]}"
mkdir "$WORK/foreign"
echo text >"$WORK/foreign/letter.txt"
refused "a folder that is not scry's" 'not a scry|not a .*scry' "$SCRY" serve --data "$WORK/foreign" "${listen[@]}"
check "the foreign folder is as it was" test letter.txt = "$(ls -A "$WORK/foreign")"
echo text >"$WORK/file"
refused "a file in place of a folder" 'file' "$SCRY" serve --data "$WORK/file" "${listen[@]}"
refused "an address that is not loopback" 'loopback' "$SCRY" serve --data "$WORK/other" --listen 0.0.0.0:0
mkdir -m 000 "$WORK/closed"
as=()
# For root every folder is open.
if [ "$(id -u)" = 0 ]; then
  cp "$SCRY" "$WORK/scry-copy" && chmod 755 "$WORK/scry-copy"
  as=(setpriv --reuid=65534 --regid=65534 --clear-groups)
  refused "a folder without permission" 'permission' "${as[@]}" "$WORK/scry-copy" serve --data "$WORK/closed" "${listen[@]}"
else
  refused "a folder without permission" 'permission' "$SCRY" serve --data "$WORK/closed" "${listen[@]}"
fi

# A full disk: a small file system of its own, which needs root.
if [ "$(id -u)" = 0 ] && mkdir "$WORK/small" && truncate -s "${FULL_DISK_MB:-320}M" "$WORK/small.img" &&
  mkfs.ext4 -q -F "$WORK/small.img" && mount -o loop "$WORK/small.img" "$WORK/small" 2>/dev/null; then
  export FULL_DISK_JOURNAL=$WORK/full-disk-journal
  # What is deleted later. Two segments of the log fit into it.
  fallocate -l 140M "$WORK/small/other"
  # Rows go into files early, so that these meet the full disk, too.
  printf '[rows]\nmemory_mib = 1\ncheckpoint_mib = 4\n' >"$WORK/rows.toml"
  start_scry "$WORK/small/data" --config "$WORK/rows.toml"
  python3 "$here/full_disk.py" fill || FAILED=1
  check "the server tells of the full disk in its log" timeout 30 grep -qm1 'commits are refused: no space left' \
    <(tail -n +1 -f --pid="$SCRY_PID" "$WORK/scry.log")
  rm "$WORK/small/other"
  python3 "$here/full_disk.py" room || FAILED=1
  # As after an error of the file system: nothing can be written any more.
  mount -o remount,abort "$WORK/small"
  python3 "$here/full_disk.py" read_only || FAILED=1
  check "the server tells in its log that it cannot write" timeout 30 grep -qm1 'commits are refused: the log stopped' \
    <(tail -n +1 -f --pid="$SCRY_PID" "$WORK/scry.log")
  end_process "$SCRY_PID"
  umount "$WORK/small"
  e2fsck -fp "$WORK/small.img" >/dev/null 2>&1 || true
  mount -o loop,ro "$WORK/small.img" "$WORK/small"
  refused "a file system that is read-only" 'read-only' "$SCRY" serve --data "$WORK/small/data" "${listen[@]}"
  umount "$WORK/small"
  # The same data on a larger disk: everything that was acknowledged is there.
  truncate -s 2G "$WORK/small.img"
  e2fsck -fp "$WORK/small.img" >/dev/null 2>&1 || true
  resize2fs "$WORK/small.img" >/dev/null 2>&1
  mount -o loop "$WORK/small.img" "$WORK/small"
  start_scry "$WORK/small/data"
  python3 "$here/full_disk.py" check || FAILED=1
  end_process "$SCRY_PID"
  umount "$WORK/small"

  # A disk of its own for the mirror, too small for it.
  truncate -s 1M "$WORK/mirror.img"
  mkfs.ext4 -q -F -O ^has_journal "$WORK/mirror.img"
  start_scry "$WORK/two"
  end_process "$SCRY_PID"
  mount -o loop "$WORK/mirror.img" "$WORK/two/mirror"
  for step in mirror mirror_again; do
    start_scry "$WORK/two"
    python3 "$here/full_disk.py" $step || FAILED=1
    end_process "$SCRY_PID"
    check "the server tells at its stop that the mirror is not on disk" grep -q 'mirror could not be written' "$WORK/scry.log"
  done
  check "verify has nothing against it" "$SCRY" verify "$WORK/two"
  umount "$WORK/two/mirror"
else
  log "skipped - full disk: needs root and loop devices"
fi
exit $FAILED
