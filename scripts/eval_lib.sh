# What the launchers share: find the sweep, run it with a starter of theirs, show the tables. Sourced, not run.
#   sweep NAME|FILE STARTER... -- OPTIONS...
# OUT names the folder of the run (runs/NAME), PYTHON the interpreter. A run that was stopped goes on where it was.

sweep() {
    local file="$1" code=0
    local starter=()
    shift
    while [ "$1" != "--" ]; do starter+=("$1"); shift; done
    shift
    [ -f "$file" ] || file="$(dirname "${BASH_SOURCE[0]}")/../configs/$file.toml"
    local out="${OUT:-runs/$(basename "$file" .toml)}"
    "${starter[@]}" -m vidcompress eval --out "$out" "$@" "$file" > /dev/null || code=$?  # the tables come below, beside the published ones
    # An exit code of 1 says that rows or questions failed; what there is, is shown all the same.
    if [ "${MACHINE_RANK:-0}" = 0 ] && compgen -G "$out/*/result.json" > /dev/null; then
        "${PYTHON:-python}" -m vidcompress results "$out" --against published
    fi
    return "$code"
}
