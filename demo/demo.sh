#!/bin/sh
# One real refgenie build, archived by a running refgenied. `make demo` runs this; everything it makes is in .demo/.
set -eu

cd "$(dirname "$0")/.."
PATH=${BIN:?run me with: make demo}:$PATH
export PATH
unset REFGENIE_HOME_PATH REFGENIE_GENOME_FOLDER REFGENIE_GENOME_ARCHIVE_FOLDER REFGENIE_GENOME_STAGE_FOLDER \
    REFGENIE_LOG_LEVEL REFGENIED_CONFIG STATE_DIRECTORY NOTIFY_SOCKET

rm -rf .demo
mkdir -p .demo/genomes
daemon=

stop() { # whatever happened, nothing is left running
    [ -z "$daemon" ] || ! kill -TERM "$daemon" 2>/dev/null || wait "$daemon" || true
    daemon=
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say() { printf '\n# %s\n' "$*"; }
show() { printf '$ %s\n' "$*"; }
run() {
    show "$@"
    "$@"
}

say "A genome folder, made by refgenie as always, and a made-up genome of 35 million bases."
show export REFGENIE=.demo/genomes/genome_config.yaml
export REFGENIE="$PWD/.demo/genomes/genome_config.yaml"
run refgenie init -c .demo/genomes/genome_config.yaml </dev/null 2>.demo/init.log
run python demo/sequences.py .demo/demo.fa.gz

say "The daemon: a configuration, then run it (here in the background; systemd does that on a server)."
show export REFGENIED_SOCKET=.demo/control.sock
export REFGENIED_SOCKET="$PWD/.demo/control.sock"
run refgenied init --config .demo/config.toml --state-folder .demo/state \
    --genome-folder .demo/genomes --genome-archive-folder .demo/archives
show "refgenied run --config .demo/config.toml 2> .demo/refgenied.log &"
refgenied run --config .demo/config.toml 2>.demo/refgenied.log &
daemon=$!
until refgeniectl status >/dev/null 2>&1; do
    kill -0 "$daemon" 2>/dev/null || {
        cat .demo/refgenied.log >&2
        exit 1
    }
    sleep 0.1
done
run refgeniectl status

say "A real build. Nothing tells the daemon of it: it sees for itself when the build has finished."
show "refgenie build demo/fasta --files fasta=.demo/demo.fa.gz --recipe demo/recipe.json > .demo/build.log"
refgenie build demo/fasta --files fasta=.demo/demo.fa.gz --recipe demo/recipe.json </dev/null >.demo/build.log 2>&1 || {
    cat .demo/build.log >&2
    exit 1
}
tail -n 3 .demo/build.log

say "The archive appears by itself. Waiting for it here, as a script would before it goes on:"
run refgeniectl archive wait demo/fasta --timeout 60

say "What there is now."
run refgeniectl asset list
run refgeniectl archive list
run refgeniectl archive show demo/fasta
run tar tzf .demo/archives/*/fasta/default/fasta__default.tgz

say "Stop the daemon: it drains and ends with status 0. The next start goes on where this one stopped."
show kill -TERM "$daemon"
kill -TERM "$daemon"
wait "$daemon"
daemon=

say "Now your own: $BIN/refgenied init --genome-folder YOUR_GENOMES --genome-archive-folder YOUR_ARCHIVES && $BIN/refgenied run"
