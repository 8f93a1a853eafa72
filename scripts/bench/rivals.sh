#!/usr/bin/env bash
# scry's engine beside RocksDB, fjall, redb and LMDB: one machine, one disk, the same rows, durability and cache; one process at a time, rounds
# alternate. Prints Markdown for benches/RESULTS.md. How each store is configured, and why, stands in benches/rivals/src/stores.
#
#   rivals.sh                         some minutes; ROWS=1000000 VALUES=100 ROUNDS=1 SECONDS_EACH=1 WRITERS=1,4,16,64 READERS=2
#   ROWS=5000000 VALUES="100 1000" ROUNDS=5 SECONDS_EACH=5 WRITERS=1,2,4,8,16,32,64 rivals.sh     full size: some hours
#                                     STORES=scry,rocksdb,… PHASES=ordered,load,memory,beyond,update,mixed,commits
#                                     FOLDER=where the stores have their files: on a disk (default: TMPDIR)
#
# RocksDB is compiled from its C++ sources, about ten minutes of processor time once; that needs g++ and libclang (Debian: libclang-dev).
# Bounding the page cache needs the right to make a control group; without it the table says so.
[ -z "${FOLDER:-}" ] || export TMPDIR=$FOLDER
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

has_libclang() {
  [ -n "${LIBCLANG_PATH:-}" ] || ldconfig -p | grep -q libclang || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null
}
has_libclang || die "libclang is not there: the bindings of RocksDB are made with it (Debian: apt-get install libclang-dev)"
command -v g++ >/dev/null || die "g++ is not there: RocksDB is C++ (Debian: apt-get install g++)"

[ -n "${SCRY_NO_BUILD:-}" ] || (cd "$REPO/benches/rivals" && cargo build --release --locked)
work_folder

echo "\`$(basename "$0")\`, $(date -u +%F), $(git -C "$REPO" rev-parse --short HEAD)"
for value in ${VALUES:-100}; do
  echo
  echo "### Values of $value bytes"
  echo
  rows=${ROWS:-1000000}
  # As many bytes with larger values.
  [ "$value" -le 100 ] || rows=$((rows * 116 / (value + 16)))
  "$CARGO_TARGET_DIR/release/scry-rivals" run --folder "$WORK/stores" --rows "$rows" --value-bytes "$value" \
    --rounds "${ROUNDS:-1}" --seconds "${SECONDS_EACH:-1}" --writers "${WRITERS:-1,4,16,64}" --readers "${READERS:-2}" \
    ${STORES:+--stores "$STORES"} ${PHASES:+--phases "$PHASES"}
done
