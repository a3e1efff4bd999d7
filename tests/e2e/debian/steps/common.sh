# For the shell steps, which are traced so that the log ends with what failed. The shell
# ignores a command negated by "!" under set -e, so what has to fail is run by refused.
set -eux

refused() {
  if "$@" 2>/dev/null; then
    echo "succeeded, but had to fail: $*" >&2
    exit 1
  fi
}

as() {
  user=$1
  shift
  setpriv --reuid "$user" --regid "$user" --clear-groups "$@"
}
