# Sourced by scripts whose checks need what not every machine has, as tests/it/require.rs is used by tests: EDITWAR_REQUIRE lists,
# with commas, what there must be.

is_required() { [[ ",${EDITWAR_REQUIRE:-}," == *",$1,"* ]]; }

# Returns whether all these tools are in PATH. Says so if not, and ends the script if EDITWAR_REQUIRE lists the one that is missing.
has() {
  local tool
  for tool in "$@"; do
    command -v "$tool" >/dev/null 2>&1 && continue
    if is_required "$tool"; then
      echo "FAILED: no $tool in PATH, and EDITWAR_REQUIRE lists it" >&2
      exit 1
    fi
    echo "skipped: no $tool in PATH"
    return 1
  done
}
