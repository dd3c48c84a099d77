#!/bin/sh
# Writes requirements/*.txt from the workspace's metadata: every distribution pinned, with its hashes.
# Existing pins stay; `requirements/export.sh --upgrade` moves them. `--check` only tells whether the files are current.
set -eu
cd "$(dirname "$0")/.."
export UV_CUSTOM_COMPILE_COMMAND="requirements/export.sh"
check=no
if [ "${1:-}" = "--check" ]; then
  check=yes
  shift
fi
target=requirements
if [ "$check" = yes ]; then
  target=$(mktemp -d)
  trap 'rm -rf "$target"' EXIT
  cp requirements/*.txt "$target/"
fi
skip=""
for wheel in agents/z4j-*/; do
  skip="$skip --no-emit-package $(basename "$wheel")"
done
compile() {
  out=$1
  shift
  # shellcheck disable=SC2086
  .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
    --no-emit-index-url --no-emit-find-links $skip "$@" -o "$target/$out"
}
compile bootstrap.txt requirements/bootstrap.in "$@"
compile base.txt pyproject.toml "$@"
compile dev.txt pyproject.toml --group dev "$@"
if [ "$check" = yes ]; then
  for file in requirements/*.txt; do
    diff -u "$file" "$target/$(basename "$file")" || {
      echo "requirements: $file is not what the metadata says; run requirements/export.sh" >&2
      exit 1
    }
  done
fi
